"""Reports of trained runs: the parts they are made of, how these are measured, and the files that come out."""
