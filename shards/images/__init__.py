"""From a file to pixels: decoding, alignment, and the codecs of shards."""
