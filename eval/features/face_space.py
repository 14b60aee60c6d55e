"""The feature space of a face recognizer: the 128 outputs of dlib's ResNet, close together for pictures of one person.

It was trained on faces only, and no model of this project is trained with it. ``pip install 'facegen[face]'``
installs it with its weights (King 2017, http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.features.resizing import resized
from eval.features.spaces import FeatureSpace
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file

NUM_FEATURES, INPUT_SIZE = 128, 150
_WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"


def face_weights() -> Path:
    """The installed file of weights.

    Raises:
        UserError: dlib or the package with the weights is not installed.
    """
    # The package itself needs setuptools, which new Pythons lack; only its file is used.
    package = find_spec("face_recognition_models")
    folders = package.submodule_search_locations if package else None
    file = Path(folders[0]) / _WEIGHTS if folders else None
    if find_spec("dlib") is None or file is None or not file.is_file():
        raise UserError("not computed: install the face recognizer with: pip install 'facegen[face]'")
    return file


def load_face(path: Path) -> FeatureSpace:
    """Loads the space from ``face_weights()``; it computes on the CPU, 13 faces a second on one core."""
    # An import statement would fail type checks where the extra is not installed.
    network: Any = import_module("dlib").face_recognition_model_v1(str(path))

    def extract(images: Tensor) -> Tensor:
        return torch.from_numpy(np.array(network.compute_face_descriptor(list(chips(images)))).astype(np.float32))

    return FeatureSpace(
        name="face",
        dim=NUM_FEATURES,
        sha256=sha256_file(path),
        preprocessing="uint8, bicubic antialias to 150x150, rounded; faces as the data set frames them",
        device=torch.device("cpu"),
        extract=extract,
    )


def chips(images: Tensor) -> np.ndarray:
    """What the recognizer sees, uint8 (N, 150, 150, 3), of uint8 images (N, H, W, 3)."""
    return resized(images, INPUT_SIZE).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
