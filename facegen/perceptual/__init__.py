"""Frozen feature nets and the loss on their layers, for any family that compares more than pixels."""
