"""Images and their mirror images as two independent halves, whose components cost a third of the search in both.

Mirrored, a set of images has a covariance that commutes with the mirror: each component is even or odd, that is its own
mirror image or the negative of it. An orthogonal change of coordinates, the sums and the differences of mirrored
pixels, separates the two: even components come from the sums alone, odd ones from the differences, whose mean is zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images N x C x H x W, W even, as even and odd parts, N x C*H*W/2 each, of the same squared length in all."""
    left, right = images.chunk(2, 3)
    right = right.flip(3)
    return (left + right).flatten(1) / math.sqrt(2), (left - right).flatten(1) / math.sqrt(2)


def whole(half: Tensor, shape: tuple[int, int, int], sign: int) -> Tensor:
    """Even (``sign`` 1) or odd (-1) images C x H x W from such parts: N x C*H*W/2 to N x C*H*W."""
    channels, height, width = shape
    left = half.reshape(-1, channels, height, width // 2) / math.sqrt(2)
    return torch.cat([left, sign * left.flip(3)], 3).flatten(1)
