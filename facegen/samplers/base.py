"""What a sampler is: a map from standard normal noise to latents, fitted to the latents of a trained encoder."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from shards.base.errors import UserError


class Latents(NamedTuple):
    """Latents of the training images."""

    mu: Tensor
    """Means of the posterior, or codes of a deterministic encoder; float32, N x L."""
    logvar: Tensor | None
    """Log variances, N x L; None for a deterministic encoder."""


def check_full_covariance(mu: Tensor, num_components: int = 1) -> None:
    """Refuses latents N x L that are too few for as many full covariances to be regular.

    Raises:
        UserError: Fewer latents than dims for each covariance, on average.
    """
    num, latent_size = mu.shape
    if num <= num_components * latent_size:
        what = "a full covariance" if num_components == 1 else f"{num_components} full covariances"
        fewer = "" if num_components == 1 else "take fewer --num_components, "
        raise UserError(
            f"{what} of {latent_size:,} dims cannot be fitted to {num:,} latents; {fewer}encode more images, or "
            "fit a gaussian_mixture with --covariance_type diag."
        )


class Sampler(nn.Module):
    """Base of every sampler; what was fitted stands in its parameters and buffers.

    Attributes:
        noise_size: Standard normal numbers that one sample takes. As these are all that is random, a sample can be
            drawn again by itself.
    """

    noise_size: int

    def __init__(self, config: Any, latent_size: int) -> None:
        """Keeps the sampler's config dataclass; makes room for what is fitted to latents of ``latent_size`` dims."""
        super().__init__()
        self.config = config
        self.latent_size = latent_size

    def fit(self, latents: Latents, seed: int) -> None:
        """Fits to the latents, which are on the sampler's device.

        Raises:
            UserError: Latents to which it cannot be fitted.
        """
        raise NotImplementedError

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Draws latents.

        Args:
            noise: Standard normal, N x noise_size.
            std: 1 draws from what was fitted; less stays closer to its most likely latents.

        Returns:
            N x L.
        """
        raise NotImplementedError
