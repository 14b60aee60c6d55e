"""Feature spaces: frozen networks whose features Fréchet and kernel distances compare.

Every space takes rounded uint8 images and resizes and scales them itself, so that no caller can change the
preprocessing. A distance carries its space's name; only Inception's may be called FID and KID.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facegen.perceptual.efficientnet_lite import NUM_FEATURES, EfficientNetLite0, preprocess, weights_file
from facegen.perceptual.torchvision_ops import make_torchvision_importable
from facegen.perceptual.weight_files import read_tensors
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file

INCEPTION_NUM_FEATURES = 2048
_PART_SIZE = 64
_PART_SIZE_OF_A_THREAD = 4
"""Larger activations do not fit into a CPU core's cache, and malloc returns their memory after each layer."""


@dataclass(frozen=True)
class FeatureSpace:
    """A frozen feature network."""

    name: str
    """Key in files and in ``report.json``."""
    dim: int
    """Number of features d."""
    sha256: str
    """Digest of the file of weights."""
    preprocessing: str
    """How images become network input, for the protocol."""
    device: torch.device
    extract: Callable[[Tensor], Tensor]
    """Features (N, d) of uint8 images (N, H, W, 3) on ``device``."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """Features float32 (N, d) of uint8 images (N, H, W, 1 or 3); gray is repeated over the channels.

        Raises:
            ValueError: Images that are not uint8.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"features are taken of uint8 images, not of {images.dtype}")
        part_size = _PART_SIZE_OF_A_THREAD * torch.get_num_threads() if self.device.type == "cpu" else _PART_SIZE
        parts = images.to(self.device).expand(-1, -1, -1, 3).split(part_size)
        return torch.cat([self.extract(part).float().cpu() for part in parts]).numpy()


def load_efflite0(device: torch.device) -> FeatureSpace:
    """Loads the space that installs with this project.

    Raises:
        UserError: The package of weights is not installed.
    """
    path = weights_file()
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval().fold().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FeatureSpace(
        name="efflite0",
        dim=NUM_FEATURES,
        sha256=sha256_file(path),
        preprocessing="uint8, bicubic antialias to 224x224, (x - 127) / 128, float32",
        device=device,
        extract=lambda images: network.features(preprocess(images)),
    )


def load_inception(weights: Path, device: torch.device) -> FeatureSpace:
    """Loads FID's Inception-v3 from a file of weights in torch-fidelity's layout.

    Raises:
        UserError: A file that does not exist or does not hold these weights.
    """
    if not weights.is_file():
        raise UserError(f"there is no file of Inception weights at {weights}; give another --fid_weights.")
    make_torchvision_importable()  # torch-fidelity imports it.
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        # torch-fidelity unpickles the file without checks; one that is read here holds only tensors.
        read_tensors(weights, "give another --fid_weights")
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{weights} does not hold Inception-v3 weights in torch-fidelity's layout "
            f"({type(error).__name__}); give another --fid_weights."
        ) from None
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FeatureSpace(
        name="inception",
        dim=INCEPTION_NUM_FEATURES,
        sha256=sha256_file(weights),
        preprocessing="uint8, TensorFlow-1 bilinear to 299x299, (x - 128) / 128, float32 (torch-fidelity)",
        device=device,
        extract=lambda images: network(images.permute(0, 3, 1, 2))[0],
    )
