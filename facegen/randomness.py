"""Random numbers that belong to samples, not to processes.

A training step draws for the whole global batch, from a generator seeded by (seed, images seen, name of the draw), and
each process keeps the rows of its own slots. So a sample's noise and augmentation are the same for any number of
processes and any accumulation, and resuming needs no generator state.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class SlotRandom:
    """Draws for a range of slots of one global batch."""

    def __init__(
        self, seed: int, images_seen: int, slots: slice, global_batch_size: int, device: torch.device | str = "cpu"
    ) -> None:
        """Selects the slots ``slots.start`` to ``slots.stop`` of the global batch that starts at ``images_seen``."""
        self.seed = seed
        self.images_seen = images_seen
        self.slots = slots
        self.global_batch_size = global_batch_size
        self.device = torch.device(device)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, (slots, *shape), float32; ``name`` distinguishes the draws of one step."""
        generator = self._generator(name)
        size = (self.global_batch_size, *shape)
        return torch.randn(size, generator=generator, device=self.device)[self.slots]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers uniform in [0, 1), (slots, *shape), float32."""
        generator = self._generator(name)
        size = (self.global_batch_size, *shape)
        return torch.rand(size, generator=generator, device=self.device)[self.slots]

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, self.images_seen, name))


def numbered_noise(size: int, num: int, seed: int, first: int = 0) -> Tensor:
    """Standard normal numbers of samples ``first`` to ``first + num - 1``, num x size, on the CPU.

    Each sample's numbers depend on ``seed`` and its own number only.
    """
    rows = [
        torch.randn(size, generator=torch.Generator().manual_seed(derive_seed(seed, "sample", index)))
        for index in range(first, first + num)
    ]
    return torch.stack(rows)


def seed_global_generators(seed: int, device: torch.device) -> None:
    """Seeds the generators of the CPU and of ``device``, as ``torch.manual_seed`` does.

    That function also records the seed, with a formatted stack, for every accelerator that is not in use: a quarter of
    a millisecond, too much for every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any values; the same on every machine and in every process."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
