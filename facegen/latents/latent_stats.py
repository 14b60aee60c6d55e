"""Moments and KL of latents, accumulated over batches and merged over processes without gathering the latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from facegen.losses.vae import kl_per_dim

ACTIVE_VARIANCE = 0.01
"""A dim is active if the variance of mu over images exceeds this (Burda et al. 2016)."""


@dataclass
class LatentStats:
    """Statistics of L latent dims over the images added so far, in float64 on the CPU.

    Welford's (1962) mean and sum of squares about it, merged by the formula of Chan et al. (1983): accurate even if the
    mean is large beside the deviation.
    """

    count: int
    mean: Tensor
    """(L,) mean of mu."""
    comoment: Tensor
    """Sum over images of (mu - mean)^2, (L,), or with covariances of its outer products, (L, L)."""
    kl_sum: Tensor
    """(L,) sum over images of the KL in nats; 0 without a posterior."""
    has_posterior: bool = False

    @classmethod
    def empty(cls, latent_size: int, covariances: bool = False) -> LatentStats:
        """Statistics of no images."""
        zeros = torch.zeros(latent_size, dtype=torch.float64)
        return cls(0, zeros, torch.diag(zeros) if covariances else zeros, zeros)

    def update(self, mu: Tensor, logvar: Tensor | None = None) -> None:
        """Adds a batch: mu (N, L), N at least 1, and with a posterior logvar (N, L)."""
        mu = mu.detach().cpu().double()
        mean = mu.mean(0)
        centered = mu - mean
        batch = LatentStats(
            count=len(mu),
            mean=mean,
            comoment=centered.T @ centered if self.comoment.ndim == 2 else centered.square().sum(0),
            kl_sum=torch.zeros_like(mean) if logvar is None else kl_per_dim(mu, logvar.detach().cpu().double()).sum(0),
            has_posterior=logvar is not None,
        )
        vars(self).update(vars(self.merge(batch)))

    def merge(self, other: LatentStats) -> LatentStats:
        """The statistics of both sets of images together."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        comoment, weight = self.comoment + other.comoment, self.count * other.count / count
        if comoment.ndim == 2:
            comoment.addr_(delta, delta, alpha=weight)  # With thousands of dims, a temporary matrix takes 100 MB.
        else:
            comoment += delta.square() * weight
        return LatentStats(
            count=count,
            mean=self.mean + delta * (other.count / count),
            comoment=comoment,
            kl_sum=self.kl_sum + other.kl_sum,
            has_posterior=self.has_posterior or other.has_posterior,
        )

    def over_processes(self, accelerator: Accelerator) -> LatentStats:
        """The statistics of all processes together; every process must call this at the same step."""
        if accelerator.num_processes == 1:
            return self
        sizes = [1, 1, len(self.mean), self.comoment.numel(), len(self.kl_sum)]
        numbers = self.mean.new_tensor([self.count, self.has_posterior])
        own = torch.cat([numbers, self.mean, self.comoment.flatten(), self.kl_sum])
        gathered = cast(Tensor, accelerator.gather(own.to(accelerator.device))).cpu().view(-1, len(own))
        parts = []
        for row in gathered:
            count, has_posterior, mean, comoment, kl_sum = row.split(sizes)
            comoment = comoment.view_as(self.comoment)
            parts.append(LatentStats(int(count), mean, comoment, kl_sum, bool(has_posterior)))
        return reduce(LatentStats.merge, parts)

    @property
    def covariance(self) -> Tensor:
        """(L, L) covariance of mu (division by the number of images); only with covariances."""
        assert self.comoment.ndim == 2, "made without covariances"
        return self.comoment / self.count

    @property
    def variance(self) -> Tensor:
        """(L,) variance of mu (division by the number of images)."""
        return (self.comoment.diagonal() if self.comoment.ndim == 2 else self.comoment) / self.count

    @property
    def kl(self) -> Tensor | None:
        """(L,) mean KL in nats; None without a posterior."""
        return self.kl_sum / self.count if self.has_posterior else None
