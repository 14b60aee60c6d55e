"""The standard normal distribution, to which a VAE's objective pulls its latents; nothing is fitted."""

from __future__ import annotations

from torch import Tensor

from facegen.samplers.base import Sampler


class PriorSampler(Sampler):
    """N(0, I)."""

    def __init__(self, latent_size: int) -> None:
        """Needs no options."""
        super().__init__(None, latent_size)
        self.noise_size = latent_size

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """The noise itself, scaled."""
        return std * noise
