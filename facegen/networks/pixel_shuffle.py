"""Upsampling by a pixel shuffle that starts without a checkerboard."""

from __future__ import annotations

import torch
from torch import nn


def pixel_shuffle(before: int, after: int, factor: int) -> list[nn.Module]:
    """A convolution and a pixel shuffle; the pixels of one place start equal (ICNR, Aitken et al. 2017)."""
    conv = nn.Conv2d(before, after * factor**2, 3, padding=1)
    with torch.no_grad():
        for values in (conv.weight, conv.bias):
            assert values is not None
            values.copy_(values[:: factor**2].repeat_interleave(factor**2, 0))
    return [conv, nn.PixelShuffle(factor)]
