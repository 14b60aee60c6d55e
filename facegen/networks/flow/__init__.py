"""The network of a flow, and how it is followed."""
