"""The standard normal prior of a VAE's latents; nothing is fitted."""

from __future__ import annotations

from torch import Tensor

from facegen.samplers.base import Sampler


class PriorSampler(Sampler):
    """N(0, I)."""

    def __init__(self, latent_size: int) -> None:
        """Builds for latents of ``latent_size`` dims."""
        super().__init__(None, latent_size)
        self.noise_size = latent_size

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L: the noise N x L, scaled."""
        return std * noise
