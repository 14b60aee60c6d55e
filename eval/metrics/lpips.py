"""LPIPS (Zhang et al. 2018): the distance of two images in AlexNet's features, weighted as people judge.

torchmetrics computes it, and installs the weights of the features. Those of AlexNet are torchvision's download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from facegen.perceptual.torchvision_ops import make_torchvision_importable
from facegen.perceptual.weight_files import read_tensors
from shards.base.errors import UserError

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
"""torchvision's; its name holds the first digits of the sha256."""
MIN_SIZE = 31
"""Pixels; smaller images do not pass AlexNet's layers."""
_FETCH = "get them with: python -m eval.weights --fetch lpips"
MISSING = f"not computed: AlexNet's weights are missing; {_FETCH}"
"""The reason where they are."""


@dataclass
class LpipsSums:
    """The sum of the distances of ``count`` pairs of images; or why there are none."""

    reason: str = ""
    count: int = 0
    total: float = 0.0

    @classmethod
    def empty(cls, device: torch.device, size: int) -> LpipsSums:
        """Sums of no pair of images of that size, the shorter side; with a reason if there will be none."""
        if size < MIN_SIZE:
            return cls(f"images are smaller than {MIN_SIZE} pixels")
        try:
            load_lpips(device)
        except UserError as error:
            return cls(str(error))
        return cls()

    def update(self, originals: Tensor, reconstructions: Tensor) -> None:
        """Adds a batch.

        Args:
            originals: float (N, 1 or 3, H, W) in [-1, 1].
            reconstructions: Likewise, nominally in [-1, 1]: clamped, as a viewer sees them.
        """
        if self.reason:
            return
        distances = load_lpips(originals.device)(originals.float(), reconstructions.float().clamp(-1, 1))
        self.total += float(distances.cpu().double().sum())
        self.count += len(originals)

    def merge(self, other: LpipsSums) -> LpipsSums:
        """The sums of both sets together; with a reason if either has one."""
        return LpipsSums(self.reason or other.reason, self.count + other.count, self.total + other.total)


def alexnet_path() -> Path:
    """The place of AlexNet's weights in torch's hub cache, where torchvision looks for them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_URL.rsplit("/", 1)[-1]


@cache
def load_lpips(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Loads the distance (N,) of float images (N, 1 or 3, H, W) in [-1, 1].

    Raises:
        UserError: AlexNet's weights are not there, or the file holds something else.
    """
    path = alexnet_path()
    if not path.is_file():
        raise UserError(MISSING)
    read_tensors(path, f"delete it, then {_FETCH}")  # torchvision unpickles the file without checks.
    make_torchvision_importable()  # torchmetrics imports it.
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net.to(device)
    except RuntimeError:
        raise UserError(f"{path} does not hold AlexNet's weights; delete it, then {_FETCH}") from None

    def distance(first: Tensor, second: Tensor) -> Tensor:
        return network(first.expand(-1, 3, -1, -1), second.expand(-1, 3, -1, -1)).flatten()

    return distance
