"""Frozen feature nets and the loss on their layers: a plug for any family that compares images by more than pixels."""
