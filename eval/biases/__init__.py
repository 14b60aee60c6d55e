"""Bias: gender and smile in the data and in samples."""
