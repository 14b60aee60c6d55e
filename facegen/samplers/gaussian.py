"""A normal distribution with the covariance of the posterior's means, all of it or its leading components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facegen.samplers.base import Latents, Sampler, check_full_covariance
from shards.base.errors import UserError

RIDGE = 1e-6
"""Added to the variances, as a share of their mean, because constant dims have none."""
MIN_MEAN_VARIANCE = 1e-12
"""Lower bound of that mean: a collapsed encoder gives every image the same latents."""


@dataclass
class GaussianConfig:
    """A normal distribution with the mean and covariance of the latents; fitted in seconds."""

    rank: int | None = None
    """Vary only this many leading principal components of the latents, and leave the rest at the mean: where there are
    thousands of latents, the small components of some thousand faces are noise. Null varies all."""
    shrinkage: bool = False
    """Draw the covariance towards a multiple of the identity, as far as Ledoit and Wolf (2004) advise for so few
    latents."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be at least 1 or null, not {self.rank}.")


class GaussianSampler(Sampler):
    """N(mean, covariance) of the latents."""

    mean: Tensor
    scale_tril: Tensor
    """A factor of the covariance, L x rank; without a rank triangular, L x L."""

    def __init__(self, config: GaussianConfig, latent_size: int) -> None:
        """Starts as the standard normal distribution of the first dims."""
        super().__init__(config, latent_size)
        self.noise_size = latent_size if config.rank is None else min(config.rank, latent_size)
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale_tril", torch.eye(latent_size, self.noise_size))

    @classmethod
    def check(cls, config: GaussianConfig, num: int, latent_size: int) -> None:
        """Needs more latents than there are directions to vary, unless it shrinks."""
        if config.rank is None and not config.shrinkage:
            check_full_covariance(num, latent_size)
        elif num <= (config.rank or 1):
            raise UserError(f"{num:,} latents are too few for a rank of {config.rank or 1:,}; encode more images.")

    def fit(self, latents: Latents, seed: int) -> None:
        """Computes mean and covariance; nothing is random.

        Raises:
            UserError: No more latents than dims, or than ``rank``.
        """
        self.check(self.config, *latents.mu.shape)
        mu = latents.mu.cpu().double()
        centered = mu - mu.mean(0)
        if self.config.shrinkage:
            from sklearn.covariance import ledoit_wolf  # Here, as it loads for a second.

            covariance = torch.from_numpy(ledoit_wolf(centered.numpy(), assume_centered=True)[0])
        else:
            covariance = centered.T @ centered / len(mu)
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp(min=MIN_MEAN_VARIANCE))
        self.mean.copy_(mu.mean(0))
        self.scale_tril.copy_(_factor(covariance, self.noise_size))

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x rank."""
        return self.mean + std * noise @ self.scale_tril.T


def _factor(covariance: Tensor, rank: int) -> Tensor:
    """L x ``rank``, whose product with its transpose is the covariance, or its ``rank`` leading components."""
    size = len(covariance)
    if rank == size:
        return torch.linalg.cholesky(covariance)
    from scipy.linalg import eigh

    values, vectors = eigh(covariance.numpy(), subset_by_index=(size - rank, size - 1))
    # An eigenvector's sign is arbitrary: largest number positive, so that every machine draws the same samples.
    vectors = torch.from_numpy(vectors)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * largest.sign() * torch.from_numpy(values).sqrt()
