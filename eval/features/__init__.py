"""Feature spaces, their weights, and features of image sets."""
