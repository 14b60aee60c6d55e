"""A mixture of normal distributions, fitted to the posterior's means ("ex-post density", Ghosh et al. 2020)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from facegen.samplers.base import Latents, Sampler, check_full_covariance
from shards.base.errors import UserError


@dataclass
class GaussianMixtureConfig:
    """A mixture of normal distributions; fitted by expectation maximization in seconds to minutes."""

    num_components: int = 10
    """Normal distributions in the mixture."""
    covariance_type: Literal["full", "diag"] = "full"
    """Covariance of each component; ``full`` needs many more latents than dims."""
    max_iterations: int = 100
    """Maximum steps of expectation maximization."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("num_components", "max_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")


class GaussianMixtureSampler(Sampler):
    """A mixture of N(mean, covariance)."""

    weights: Tensor
    means: Tensor
    scales: Tensor
    """Cholesky factors, K x L x L, or with ``diag`` standard deviations, K x L."""

    def __init__(self, config: GaussianMixtureConfig, latent_size: int) -> None:
        """Starts with every component standard normal."""
        super().__init__(config, latent_size)
        num = config.num_components
        self.noise_size = 1 + latent_size
        self.register_buffer("weights", torch.full((num,), 1 / num))
        self.register_buffer("means", torch.zeros(num, latent_size))
        is_full = config.covariance_type == "full"
        one = torch.eye(latent_size) if is_full else torch.ones(latent_size)
        self.register_buffer("scales", one.repeat(num, *[1] * one.ndim))

    @classmethod
    def check(cls, config: GaussianMixtureConfig, num: int, latent_size: int) -> None:
        """Needs more latents than dims for each full covariance."""
        if config.covariance_type == "full":
            check_full_covariance(num, latent_size, config.num_components)

    def fit(self, latents: Latents, seed: int) -> None:
        """Fits with scikit-learn on the CPU; the seed places the initial means.

        Raises:
            UserError: Too few latents for the components and their covariances.
        """
        self.check(self.config, *latents.mu.shape)
        mu = latents.mu.cpu().double()
        center, scale = mu.mean(0), mu.std(0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        mixture = _fit_mixture(((mu - center) / scale).numpy(), self.config, seed)
        self.weights.copy_(torch.as_tensor(mixture.weights_))
        self.means.copy_(center + scale * torch.as_tensor(mixture.means_))
        covariances = torch.as_tensor(mixture.covariances_)
        if self.config.covariance_type == "full":
            self.scales.copy_(scale[:, None] * torch.linalg.cholesky(covariances))
        else:
            self.scales.copy_(scale * covariances.sqrt())

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x (1 + L): the first number chooses the component."""
        share = torch.special.ndtr(noise[:, 0].cpu().double())
        ends = self.weights.cpu().double().cumsum(0)
        component = torch.searchsorted(ends / ends[-1], share).clamp(max=len(ends) - 1).to(noise.device)
        latents = self.means[component]
        if self.scales.ndim == 2:
            return latents + std * noise[:, 1:] * self.scales[component]
        for number, scale_tril in enumerate(self.scales):
            rows = component == number
            latents[rows] += std * noise[rows, 1:] @ scale_tril.T
        return latents


def _fit_mixture(latents: np.ndarray, config: GaussianMixtureConfig, seed: int) -> Any:
    """scikit-learn's mixture of standardized latents N x L.

    Raises:
        UserError: Latents that it cannot be fitted to.
    """
    # Slow to import, and sampling does not need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        config.num_components,
        covariance_type=config.covariance_type,
        max_iter=config.max_iterations,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            mixture.fit(latents)
        except ValueError as error:
            num, latent_size = latents.shape
            raise UserError(
                f"the mixture cannot be fitted to {num:,} latents of {latent_size} dims: {error} Give fewer "
                "--num_components, --covariance_type diag, or more images."
            ) from None
    if not mixture.converged_:
        print(f"note: the mixture still improved in step {config.max_iterations}, the last; raise --max_iterations.")
    return mixture
