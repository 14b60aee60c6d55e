"""The terms of a VAE's objective as pure functions.

Each is one value an image or dim, to be averaged over the batch: no term changes with the batch size.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]

LOGVAR_MIN, LOGVAR_MAX = -30.0, 20.0
COLLAPSE_NATS_PER_DIM = 0.05
"""A latent dim with a smaller KL carries nothing."""


def kl_per_dim(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), per latent dim.

    ``-1/2 (1 + logvar - mu^2 - exp(logvar))``, Kingma and Welling 2014, appendix B. ``logvar`` is clamped to [-30, 20].

    Args:
        mu: Means, N x L.
        logvar: Log variances, N x L.

    Returns:
        Nats, N x L, each at least 0.
    """
    logvar = logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)
    return -0.5 * (1 + logvar - mu.square() - logvar.exp())


def reparameterize(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A sample of N(mu, exp(logvar)) from standard normal ``noise``, all N x L."""
    return mu + noise * torch.exp(0.5 * logvar.clamp(LOGVAR_MIN, LOGVAR_MAX))


def reconstruction_error(images: Tensor, reconstructions: Tensor, reduction: Reduction) -> Tensor:
    """Squared error of each image, as the sum or mean over its values.

    Args:
        images: N x C x H x W in [-1, 1].
        reconstructions: The same shape.
        reduction: ``sum`` or ``mean`` over C, H and W.

    Returns:
        One value an image, N.
    """
    squared = (images - reconstructions).square().flatten(1)
    return squared.sum(1) if reduction == "sum" else squared.mean(1)


def kl_scale(reduction: Reduction, latent_size: int) -> float:
    """The factor on the summed KL beside ``kld_weight``: ``mean`` divides it by the number of dims."""
    return 1.0 if reduction == "sum" else 1.0 / latent_size


def beta_eff(kld_weight: float, reduction: Reduction, latent_size: int, num_pixels: int) -> float:
    """The KL weight on the one scale of ``1/2 * SSE + beta_eff * sum-KL`` with pixels in [-1, 1].

    Also the variance of the Gaussian decoder whose negative ELBO the objective is, up to a factor.

    Args:
        kld_weight: Weight of the KL in the objective, relative to that of the reconstruction.
        reduction: How the reconstruction is reduced; ``mean`` also divides the KL by ``latent_size``.
        latent_size: Number of latent dims.
        num_pixels: C * H * W.
    """
    pixels_per_unit = 1 if reduction == "sum" else num_pixels
    return 0.5 * pixels_per_unit * kl_scale(reduction, latent_size) * kld_weight


def warmup_factor(kind: Literal["none", "linear", "cyclical"], images_seen: int, warmup_images: int) -> float:
    """The factor on the KL weight during warm-up, in [0, 1].

    ``linear`` rises once from 0 to 1 (Bowman et al. 2016). ``cyclical`` repeats with period ``2 * warmup_images``: half
    a cycle rising, half at 1 (Fu et al. 2019).
    """
    if kind == "none":
        return 1.0
    position = images_seen % (2 * warmup_images) if kind == "cyclical" else images_seen
    return min(1.0, position / warmup_images)


def gaussian_nll(squared_error: Tensor, variance: Tensor | float, num_pixels: int) -> Tensor:
    """Negative log density of images under N(reconstruction, variance), in nats an image.

    Args:
        squared_error: Sum of squared errors of each image, N, or its mean over images, a scalar.
        variance: Decoder variance, of pixels in [-1, 1].
        num_pixels: C * H * W.
    """
    return 0.5 * squared_error / variance + 0.5 * num_pixels * torch.as_tensor(2 * math.pi * variance).log()
