"""How a model uses its latent dims: moments of mu, KL, and the aggregated posterior against N(0, 1).

Always from mu (and logvar) in eval mode. Means, covariances and KL come from ``facegen.latents.latent_stats``, as in
training. The aggregated posterior q(z) = mean_x q(z|x) is a mixture of N Gaussians, so its distribution function on a
grid is exact: no draws, no noise, and sums that merge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facegen.latents.latent_stats import ACTIVE_VARIANCE, LatentStats
from facegen.losses.vae import COLLAPSE_NATS_PER_DIM

GRID = np.linspace(-6, 6, 241)
"""Points at which the aggregated posterior's distribution function is computed, in standard deviations of the prior."""
_CDF_VALUES = 200_000
"""About this many values of images x L x grid are computed at once: more do not fit into a CPU's cache."""


@dataclass
class LatentStatistics:
    """Accumulated statistics of L latent dims."""

    moments: LatentStats
    """With covariances."""
    cdf: np.ndarray
    """(L, grid) sum over images of the posterior's distribution function."""

    @classmethod
    def empty(cls, latent_size: int) -> LatentStatistics:
        """Statistics without images."""
        return cls(LatentStats.empty(latent_size, covariances=True), np.zeros((latent_size, len(GRID))))

    def update(self, mu: Tensor, logvar: Tensor | None = None) -> None:
        """Adds mu (N, L) and, where the encoder is probabilistic, logvar (N, L)."""
        self.moments.update(mu, logvar)
        mu = mu.detach().cpu().double()
        grid, chunk = torch.from_numpy(GRID), max(1, _CDF_VALUES // self.cdf.size)
        if logvar is None:
            for part_mu in mu.split(chunk):
                self.cdf += (part_mu[:, :, None] <= grid).sum(dim=0).numpy()
            return
        # Phi(x) = (1 + erf(x / sqrt(2))) / 2; in place, this takes a third of the time of ndtr.
        scale = (-0.5 * logvar.detach().cpu().double()).exp() * math.sqrt(0.5)
        for part_mu, part_scale in zip(mu.split(chunk), scale.split(chunk), strict=True):
            erf = (grid - part_mu[:, :, None]).mul_(part_scale[:, :, None]).erf_()
            self.cdf += erf.sum(dim=0).add_(len(erf)).mul_(0.5).numpy()

    def merge(self, other: LatentStatistics) -> LatentStatistics:
        """The statistics of both sets together."""
        return LatentStatistics(self.moments.merge(other.moments), self.cdf + other.cdf)

    def usage(self) -> LatentUsage:
        """The finished numbers."""
        moments = self.moments
        variance, kl = moments.variance.numpy().copy(), moments.kl
        active = variance > ACTIVE_VARIANCE
        cdf = self.cdf / moments.count
        prior = torch.special.ndtr(torch.from_numpy(GRID)).numpy()
        return LatentUsage(
            mean=moments.mean.numpy(),
            variance=variance,
            kl=None if kl is None else kl.numpy(),
            cdf=cdf,
            ks=np.abs(cdf - prior).max(axis=1),
            num_active=int(active.sum()),
            effective_dims=effective_dims(variance),
            correlation=_correlation(moments.covariance.numpy(), active),
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
    """Dims whose variance of mu exceeds ``ACTIVE_VARIANCE``."""
    effective_dims: float
    correlation: np.ndarray
    """(A, A) correlation of mu between the active dims."""

    @property
    def num_with_kl(self) -> int | None:
        """Dims whose mean KL exceeds ``COLLAPSE_NATS_PER_DIM``; None without a posterior."""
        return None if self.kl is None else int((self.kl > COLLAPSE_NATS_PER_DIM).sum())

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
