"""How a model uses its latent dims: moments of mu, KL, and the aggregated posterior against N(0, 1).

Always from mu (and logvar) in eval mode. Means and covariances are Welford's, merged across batches and ranks by the
formula of Chan et al. 1983. The aggregated posterior q(z) = mean_x q(z|x) is a mixture of N Gaussians, so its
distribution function is known exactly on a grid: no draws, no noise, and sums that merge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facegen.losses import kl_per_dim

ACTIVE_VARIANCE = 0.01
"""A dim is active where the variance of mu over images exceeds this (Burda et al. 2016)."""
GRID = np.linspace(-6, 6, 241)
"""Where the distribution function of the aggregated posterior is known, in standard deviations of the prior."""
_CDF_CHUNK = 16
"""Images whose chunk x L x grid values are in memory at once."""


@dataclass
class LatentStatistics:
    """Accumulated statistics of L latent dims."""

    count: int
    mean: np.ndarray
    """(L,) mean of mu."""
    comoment: np.ndarray
    """(L, L) sum over images of the outer products of mu minus its mean."""
    kl: np.ndarray
    """(L,) sum of KL in nats; stays 0 for a model without logvar."""
    cdf: np.ndarray
    """(L, grid) sum over images of the posterior's distribution function."""
    has_posterior: bool = False

    @classmethod
    def empty(cls, latent_size: int) -> LatentStatistics:
        """Statistics of no image at all."""
        size = latent_size
        return cls(0, np.zeros(size), np.zeros((size, size)), np.zeros(size), np.zeros((size, len(GRID))))

    def update(self, mu: Tensor, logvar: Tensor | None = None) -> None:
        """Adds mu (N, L) and, where the encoder is probabilistic, logvar (N, L)."""
        mu = mu.detach().double().cpu()
        batch = LatentStatistics.empty(mu.shape[1])
        batch.count = len(mu)
        batch.mean = mu.mean(dim=0).numpy()
        centered = mu.numpy() - batch.mean
        batch.comoment = centered.T @ centered
        grid = torch.from_numpy(GRID)
        if logvar is None:
            for part_mu in mu.split(_CDF_CHUNK):
                batch.cdf += (part_mu[:, :, None] <= grid).double().sum(dim=0).numpy()
        else:
            logvar = logvar.detach().double().cpu()
            batch.has_posterior = True
            batch.kl = kl_per_dim(mu, logvar).sum(dim=0).numpy()
            std = (0.5 * logvar).exp()
            for part_mu, part_std in zip(mu.split(_CDF_CHUNK), std.split(_CDF_CHUNK), strict=True):
                standardized = (grid - part_mu[:, :, None]) / part_std[:, :, None]
                batch.cdf += torch.special.ndtr(standardized).sum(dim=0).numpy()
        vars(self).update(vars(self.merge(batch)))

    def merge(self, other: LatentStatistics) -> LatentStatistics:
        """The statistics of both sets together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        between = np.outer(delta, delta) * (self.count * other.count / count)
        return LatentStatistics(
            count=count,
            mean=self.mean + delta * (other.count / count),
            comoment=self.comoment + other.comoment + between,
            kl=self.kl + other.kl,
            cdf=self.cdf + other.cdf,
            has_posterior=self.has_posterior or other.has_posterior,
        )

    def usage(self) -> LatentUsage:
        """The finished numbers."""
        covariance = self.comoment / self.count
        variance = np.diag(covariance).copy()
        active = variance > ACTIVE_VARIANCE
        cdf = self.cdf / self.count
        prior = torch.special.ndtr(torch.from_numpy(GRID)).numpy()
        return LatentUsage(
            mean=self.mean,
            variance=variance,
            kl=self.kl / self.count if self.has_posterior else None,
            cdf=cdf,
            ks=np.abs(cdf - prior).max(axis=1),
            num_active=int(active.sum()),
            effective_dims=effective_dims(variance),
            correlation=_correlation(covariance, active),
        )


@dataclass(frozen=True)
class LatentUsage:
    """What each latent dim does."""

    mean: np.ndarray
    """(L,) mean of mu."""
    variance: np.ndarray
    """(L,) variance of mu over images, divided by N."""
    kl: np.ndarray | None
    """(L,) mean KL in nats; None without a posterior."""
    cdf: np.ndarray
    """(L, grid) distribution function of the aggregated posterior on ``GRID``."""
    ks: np.ndarray
    """(L,) Kolmogorov-Smirnov distance of the aggregated posterior from N(0, 1), in [0, 1]."""
    num_active: int
    effective_dims: float
    correlation: np.ndarray
    """(A, A) correlation of mu between the active dims."""

    @property
    def order(self) -> np.ndarray:
        """(L,) dims by variance of mu, the most active first."""
        return np.argsort(-self.variance, kind="stable")

    @property
    def off_diagonal(self) -> np.ndarray:
        """Absolute correlations of all pairs of active dims."""
        return np.abs(self.correlation[np.triu_indices(len(self.correlation), k=1)])


def effective_dims(variance: np.ndarray) -> float:
    """exp(entropy) of the variance spectrum normalised to 1: L for equal variances, 1 where one dim has all of it."""
    total = variance.sum()
    if total <= 0:
        return 0.0
    share = variance[variance > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def _correlation(covariance: np.ndarray, active: np.ndarray) -> np.ndarray:
    kept = covariance[np.ix_(active, active)]
    std = np.sqrt(np.diag(kept))
    return kept / np.outer(std, std)
