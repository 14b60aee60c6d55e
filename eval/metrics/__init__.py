"""One metric a file: an accumulator that merges across ranks, and a pure function that finishes it."""

from facegen.perceptual.torchvision_ops import make_torchvision_importable

make_torchvision_importable()  # torchmetrics and torch-fidelity import it.
