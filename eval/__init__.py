"""Evaluation of finished runs: metrics, latent analysis, pictures and reports."""

from facegen.perceptual.torchvision_ops import make_torchvision_importable

# Here, since it has to come before the first import of torchmetrics or torch-fidelity, which both import torchvision.
make_torchvision_importable()
