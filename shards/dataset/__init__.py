"""The data set format: tar shards, manifest and index, on this machine or behind an address."""
