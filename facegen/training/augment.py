"""Augmentation of training batches on the device: flip and color jitter, drawn for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from facegen.options import AugmentConfig
from facegen.pixels import to_float
from facegen.randomness import SlotRandom

# Rec. 601 luma, the weights of Pillow's "L" mode.
_LUMA = (0.299, 0.587, 0.114)


def augment(images: Tensor, config: AugmentConfig, random: SlotRandom) -> Tensor:
    """Turns stored images into network input, and augments them.

    Args:
        images: uint8, N x H x W x C, in [0, 255].
        config: Which changes, and how strong.
        random: The draws of these N samples.

    Returns:
        float32, N x C x H x W, in [-1, 1], in channels-last memory order.
    """
    if config.flip:
        images = _mirror(images, config, random)
    pixels = to_float(images)
    return jitter(pixels, config, random) if config.brightness or config.contrast or config.saturation else pixels


def jitter(images: Tensor, config: AugmentConfig, random: SlotRandom) -> Tensor:
    """Changes brightness, contrast and saturation.

    Args:
        images: float, N x C x H x W in [-1, 1].
        config: How strong.
        random: The draws of these N samples.

    Returns:
        The same shape and range.
    """
    factors = 1 + (random.uniform("jitter", 3) * 2 - 1) * images.new_tensor(
        [config.brightness, config.contrast, config.saturation]
    )
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    # In place: each pass over a batch is bound by memory. Black is -1, and stays there.
    pixels = images.mul(brightness).add_(brightness - 1).clamp_(-1, 1)
    mean_luma = _luma(pixels.mean((2, 3), keepdim=True))
    pixels.mul_(contrast).add_(mean_luma * (1 - contrast)).clamp_(-1, 1)
    gray = _luma(pixels).mul(1 - saturation)[:, 0]
    pixels.mul_(saturation)
    for channel in pixels.unbind(1):  # Broadcasting takes twice as long in channels-last memory.
        channel.add_(gray)
    return pixels.clamp_(-1, 1)


def mirrored(config: AugmentConfig, random: SlotRandom) -> Tensor:
    """Which images ``augment`` mirrors, bool N: half of them with ``flip``."""
    draws = random.uniform("flip")
    return draws < 0.5 if config.flip else torch.zeros_like(draws, dtype=torch.bool)


def _mirror(images: Tensor, config: AugmentConfig, random: SlotRandom) -> Tensor:
    """Mirrors some of the images, N x H x W x C, left and right."""
    kept = (~mirrored(config, random)).to(images.dtype)[:, None, None, None]
    # On bytes, which take a quarter of the memory of floats; torch.where takes twice as long.
    return images.flip(2).mul_(1 - kept).add_(images * kept)


def _luma(pixels: Tensor) -> Tensor:
    """N x 1 x H x W."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels.permute(0, 2, 3, 1) @ pixels.new_tensor(_LUMA))[:, None]
