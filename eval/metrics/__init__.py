"""One metric a file: an accumulator that merges across ranks, and a pure function that finishes it."""
