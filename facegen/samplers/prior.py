"""The prior of a family that samples: standard normal latents, or those of its flow; nothing is fitted."""

from __future__ import annotations

from torch import Tensor

from facegen.families.base import Family
from facegen.samplers.base import Sampler


class PriorSampler(Sampler):
    """Latents that the family itself makes of N(0, I)."""

    def __init__(self, family: Family) -> None:
        """Shares the family's networks."""
        super().__init__(None, family.latent_size or 0)
        self.noise_size = self.latent_size
        self._latents_of_noise = family.latents_of_noise

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L of the noise N x L, scaled."""
        return self._latents_of_noise(std * noise)
