"""From a source to a data set: options, plan, splits, shards, and the workspace that makes it resumable."""
