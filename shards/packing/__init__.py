"""From a source to shards: plan, shard, execution, and what a stopped packing left."""
