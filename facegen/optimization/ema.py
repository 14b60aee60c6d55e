"""Exponential moving average of weights, with its half-life counted in images (after EDM, Karras et al. 2022)."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from facegen.families.base import Family

_MOVES_PER_HALF_LIFE = 16
"""At most: each one passes over all weights, and more would hardly change the average."""

_Table = dict[str, Tensor]
_Place = tuple[_Table, _Table, str]
"""The tables in which a module of the average and its counterpart in the family keep a tensor, and its name."""


class EMA:
    """A second copy of a family whose weights slowly follow the first's.

    Float buffers are averaged too: batch norm's statistics must be those of the averaged weights, not of the newest
    ones. Counters are copied. Weights that do not learn are left alone.
    """

    def __init__(self, family: Family, half_life_images: int, ramp_up: float = 0.0) -> None:
        """Starts from the family's current weights.

        Args:
            family: What to average.
            half_life_images: Images after which a weight's share has halved.
            ramp_up: Bounds the half-life by this share of the images seen, so that the first weights, which are good
                for nothing, are soon forgotten (EDM2, Karras et al. 2024); 0 sets no bound.
        """
        self.module = copy.deepcopy(family).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self.ramp_up = ramp_up
        # Caches where tensors live: walking the modules costs as much as averaging. The tensors themselves cannot be
        # cached, as DDP replaces buffers.
        self._averaged: list[_Place] = []
        self._copied: list[_Place] = []
        self._fixed: list[_Place] = []  # Weights that do not learn; averaging them would change nothing and take long.
        for own, other in zip(self.module.modules(), family.modules(), strict=True):
            for table, others in ((own._parameters, other._parameters), (own._buffers, other._buffers)):
                for name, tensor in table.items():
                    if tensor is None:
                        continue
                    learner = others[name]
                    is_fixed = isinstance(learner, nn.Parameter) and not learner.requires_grad
                    changing = self._averaged if tensor.is_floating_point() else self._copied
                    places = self._fixed if is_fixed else changing
                    places.append((cast(_Table, table), cast(_Table, others), name))

    @torch.no_grad()
    def update(self, images_seen: int, num_images: int) -> None:
        """Moves the average after a step of ``num_images`` images; with small batches, only every few steps.

        Args:
            images_seen: Images of the run including this step, a multiple of ``num_images``.
            num_images: Images of each step.
        """
        half_life = min(self.half_life_images, self.ramp_up * images_seen) if self.ramp_up else self.half_life_images
        num_steps = max(1, int(half_life // (_MOVES_PER_HALF_LIFE * num_images)))
        if images_seen // num_images % num_steps:
            return
        weight = 1 - 0.5 ** (num_steps * num_images / half_life)
        averages = [own[name] for own, _, name in self._averaged]
        values = [other[name] for _, other, name in self._averaged]
        torch._foreach_lerp_(averages, values, weight)  # type: ignore
        for own, other, name in self._copied:
            own[name].copy_(other[name])

    @torch.no_grad()
    def restart(self) -> None:
        """Starts again from the family's current weights."""
        for own, other, name in (*self._averaged, *self._copied, *self._fixed):
            own[name].copy_(other[name])
