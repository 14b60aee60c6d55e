"""Whether a conditional model does what it is asked."""
