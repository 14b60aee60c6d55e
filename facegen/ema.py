"""Exponential moving average of weights, with its half-life counted in images (after EDM, Karras et al. 2022)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from facegen.families import Family


class EMA:
    """A second copy of a family whose weights follow the first's slowly.

    Buffers of floats follow as the weights do: batch norm's averages have to be those of the averaged weights, not of
    the newest ones. Counters are copied.
    """

    def __init__(self, module: Family, half_life_images: int) -> None:
        """Starts from the module's current weights."""
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life_images = half_life_images

    @torch.no_grad()
    def update(self, module: Family, num_images: int) -> None:
        """Moves the average by one step of ``num_images`` images."""
        weight = 1 - 0.5 ** (num_images / self.half_life_images)
        averages, own_counters = _tensors(self.module)
        values, counters = _tensors(module)
        torch._foreach_lerp_(averages, values, weight)  # type: ignore
        for own, other in zip(own_counters, counters, strict=True):
            own.copy_(other)


def _tensors(module: Family) -> tuple[list[Tensor], list[Tensor]]:
    """What is averaged, and what is only copied."""
    tensors = [*module.parameters(), *module.buffers()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
