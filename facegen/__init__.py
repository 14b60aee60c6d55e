"""facegen: training of face-generating autoencoders and GANs."""

__version__ = "0.1.0"
