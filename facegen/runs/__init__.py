"""Run directories: what training leaves on disk, and how it is found and checked again."""
