"""Evidence lower bound of a model with a Gaussian posterior and a Gaussian decoder of variance ``sigma^2``.

    ELBO = E_q[log N(x; decode(z), sigma^2 I)] - KL(q(z|x) || N(0, I))          nats per image

with one draw of z per image for the expectation, images in [-1, 1]. A training objective ``1/2 SSE + beta_eff * KL`` is
the ELBO with ``sigma^2 = beta_eff`` times a constant, so models trained with different weights are compared as
densities of the same images. A KL weight chosen for sharp or smooth samples is far from the best variance, so the bits
per dim at the best variance are reported as well.

Bits per dim treat a pixel value as one of 256: its probability is the density times the distance of two values,
2/255 on [-1, 1] (the midpoint rule; no dequantisation noise is added), divided over D = C x H x W values:

    bits/dim = (-ELBO / D + ln(127.5)) / ln 2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

VALUE_STEP = 2 / 255
"""Distance of two neighbouring pixel values on [-1, 1]."""


def gaussian_log_likelihood(squared_error: np.ndarray, num_values: int, variance: float) -> np.ndarray:
    """Log-density of N(mean, variance I) in nats, from the sum of squared errors over ``num_values`` values."""
    return -0.5 * (squared_error / variance + num_values * math.log(2 * math.pi * variance))


def bits_per_dim(elbo: float, num_values: int) -> float:
    """The ELBO in nats per image as bits per pixel value, of images with 256 values on [-1, 1]."""
    return (-elbo / num_values - math.log(VALUE_STEP)) / math.log(2)


def posterior_noise(seed: int, rows: Tensor | np.ndarray, latent_size: int) -> Tensor:
    """Standard normal noise (N, latent_size), float32: the same for a row whichever rank and batch holds it."""
    draws = [np.random.Generator(np.random.Philox(key=[seed, int(row)])).standard_normal(latent_size) for row in rows]
    return torch.from_numpy(np.stack(draws).astype(np.float32))


@dataclass
class ElboSums:
    """Sums over images, in nats; the squared error is that of decoded posterior draws."""

    num_values: int
    count: int = 0
    kl: float = 0.0
    squared_error: float = 0.0

    def update(self, kl: np.ndarray, squared_error: np.ndarray) -> None:
        """Adds the KL in nats (N,) and the sum of squared errors (N,) of a batch."""
        self.count += len(kl)
        self.kl += float(kl.sum())
        self.squared_error += float(squared_error.sum())

    def merge(self, other: ElboSums) -> ElboSums:
        """The sums of both sets together."""
        return ElboSums(
            self.num_values, self.count + other.count, self.kl + other.kl, self.squared_error + other.squared_error
        )

    @property
    def best_variance(self) -> float:
        """The decoder variance with the highest ELBO for this encoder and decoder: the mean squared error per value.

        The analytic solution of Rybkin et al. 2021 (sigma-VAE).
        """
        return self.squared_error / self.count / self.num_values

    def elbo(self, variance: float) -> float:
        """Mean ELBO in nats per image with a decoder of this variance."""
        likelihood = gaussian_log_likelihood(np.array(self.squared_error / self.count), self.num_values, variance)
        return float(likelihood) - self.kl / self.count
