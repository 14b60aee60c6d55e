"""Exponential moving average of weights, with its half-life counted in images (after EDM, Karras et al. 2022)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from facegen.families import Family


class EMA:
    """A second copy of a family whose weights follow the first's slowly.

    Buffers of floats follow as the weights do: batch norm's averages have to be those of the averaged weights, not of
    the newest ones. Counters are copied.
    """

    def __init__(self, family: Family, half_life_images: int) -> None:
        """Starts from the family's current weights, and will follow it."""
        self.module = copy.deepcopy(family).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        # Found once, as a walk through all modules takes as long as the averaging. Tensors are not kept: DDP puts
        # others in the place of buffers.
        pairs = list(zip(self.module.modules(), family.modules(), strict=True))
        self._averaged = [
            (*pair, name) for pair in pairs for name, tensor in _own(pair[0]) if tensor.is_floating_point()
        ]
        self._copied = [
            (*pair, name) for pair in pairs for name, tensor in _own(pair[0]) if not tensor.is_floating_point()
        ]

    @torch.no_grad()
    def update(self, num_images: int) -> None:
        """Moves the average by one step of ``num_images`` images."""
        weight = 1 - 0.5 ** (num_images / self.half_life_images)
        averages = [getattr(own, name) for own, _, name in self._averaged]
        values = [getattr(other, name) for _, other, name in self._averaged]
        torch._foreach_lerp_(averages, values, weight)  # type: ignore
        for own, other, name in self._copied:
            getattr(own, name).copy_(getattr(other, name))


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The module's own parameters and buffers, by name."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
