"""Resizing as Pillow does it, in batches and on any device."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resized(images: Tensor, size: int) -> Tensor:
    """Images resized to ``size`` x ``size``: bicubic with antialiasing, in whole values.

    Args:
        images: uint8 (N, H, W, 3).
        size: Side in pixels.

    Returns:
        float32 (N, 3, size, size), whole values from 0 to 255.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    for shape in ((images.shape[1], size), (size, size)):  # Pillow rounds after each direction, halves up.
        pixels = functional.interpolate(pixels, size=shape, mode="bicubic", antialias=True)
        pixels = pixels.add(0.5).floor().clamp(0, 255)
    return pixels
