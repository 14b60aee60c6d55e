"""A normal distribution with full covariance, fitted to the posterior's means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facegen.samplers.base import Latents, Sampler, check_full_covariance

RIDGE = 1e-6
"""Added to the variances, as a share of their mean, because constant dims have none."""
MIN_MEAN_VARIANCE = 1e-12
"""Lower bound of that mean: a collapsed encoder gives every image the same latents."""


@dataclass
class GaussianConfig:
    """A normal distribution with the mean and covariance of the latents; fitted in a second."""


class GaussianSampler(Sampler):
    """N(mean, covariance) of the latents."""

    mean: Tensor
    scale_tril: Tensor

    def __init__(self, config: GaussianConfig, latent_size: int) -> None:
        """Starts as the standard normal distribution."""
        super().__init__(config, latent_size)
        self.noise_size = latent_size
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale_tril", torch.eye(latent_size))

    @classmethod
    def check(cls, config: GaussianConfig, num: int, latent_size: int) -> None:
        """Needs more latents than dims."""
        check_full_covariance(num, latent_size)

    def fit(self, latents: Latents, seed: int) -> None:
        """Computes mean and covariance; nothing is random.

        Raises:
            UserError: No more latents than dims.
        """
        self.check(self.config, *latents.mu.shape)
        mu = latents.mu.cpu().double()
        centered = mu - mu.mean(0)
        covariance = centered.T @ centered / len(mu)
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp(min=MIN_MEAN_VARIANCE))
        self.mean.copy_(mu.mean(0))
        self.scale_tril.copy_(torch.linalg.cholesky(covariance))

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x L."""
        return self.mean + std * noise @ self.scale_tril.T
