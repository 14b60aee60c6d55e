"""Differentiable augmentation of all images that a discriminator sees (DiffAugment, Zhao et al. 2020).

Real and generated images are changed alike: a discriminator cannot learn its few real ones by heart, and the generator
learns none of the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from facegen.randomness import SlotRandom

AugmentKind = Literal["color", "translation", "cutout"]
_SHIFT = 8
"""Images move by up to an 8th of their sides."""
_NUM_DRAWS = 4


def diff_augment(
    images: Tensor, kinds: Sequence[AugmentKind], random: SlotRandom, name: str, share: float | Tensor = 1.0
) -> Tensor:
    """Changes images, with a gradient.

    Args:
        images: float, N x C x H x W in [-1, 1].
        kinds: ``color``: brightness, saturation and contrast. ``translation``: a shift, with zeros behind it.
            ``cutout``: zeros in a square of half the sides.
        random: The draws of these N images.
        name: Of the draws; another for each group of images.
        share: Probability of each kind for each image.

    Returns:
        The same shape; brightness can leave [-1, 1].
    """
    for kind in kinds:
        draws = random.uniform(f"{name}_{kind}", _NUM_DRAWS)
        chosen = (draws[:, 3] < share)[:, None, None, None]
        images = torch.where(chosen, _CHANGES[kind](images, draws), images)
    return images


def _color(images: Tensor, draws: Tensor) -> Tensor:
    brightness, saturation, contrast = draws[:, :3, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translated(images: Tensor, draws: Tensor) -> Tensor:
    num, channels, height, width = images.shape
    down, right = height // _SHIFT, width // _SHIFT
    images = pad(images, (right, right, down, down))
    rows = _window(draws[:, 0], 2 * down, height)[:, None, :, None].expand(num, channels, height, width + 2 * right)
    columns = _window(draws[:, 1], 2 * right, width)[:, None, None].expand(num, channels, height, width)
    return images.gather(2, rows).gather(3, columns)


def _window(draws: Tensor, room: int, size: int) -> Tensor:
    """Places N x ``size`` that begin at one of 0 to ``room``."""
    return (draws * (room + 1)).long()[:, None] + torch.arange(size, device=draws.device)


def _cut(images: Tensor, draws: Tensor) -> Tensor:
    height, width = images.shape[2:]
    rows, columns = _stripe(draws[:, 0], height), _stripe(draws[:, 1], width)
    return images * ~(rows[:, :, None] & columns[:, None])[:, None]


def _stripe(draws: Tensor, size: int) -> Tensor:
    """Which of ``size`` places, bool N x ``size``, lie within a quarter of ``size`` of a random one."""
    center = (draws * (size + 1)).long()[:, None]
    places = torch.arange(size, device=draws.device)
    return (places >= center - size // 4) & (places < center + size // 4)


_CHANGES = {"color": _color, "translation": _translated, "cutout": _cut}
