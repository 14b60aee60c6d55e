"""The interface of a sampler: a map from standard normal noise to latents, fitted to those of a trained encoder."""

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
    thumbnails: Tensor
    """The images at a few pixels, float32, N x D on the CPU: which faces look alike."""
    persons: Tensor | None
    """Who they show, int64 N on the CPU, negative where unknown; None where the data do not tell."""


def check_full_covariance(num: int, latent_size: int, num_components: int = 1) -> None:
    """Refuses latents too few for ``num_components`` full covariances to be invertible.

    Raises:
        UserError: On average no more latents than dims for each covariance.
    """
    if num <= num_components * latent_size:
        what = "a full covariance" if num_components == 1 else f"{num_components} full covariances"
        fewer = "" if num_components == 1 else "give fewer --num_components, "
        raise UserError(
            f"{num:,} latents are too few to fit {what} of {latent_size:,} dims; {fewer}encode more images, or "
            "fit a gaussian_mixture with --covariance_type diag."
        )


class Sampler(nn.Module):
    """Base of every sampler; its parameters and buffers hold what was fitted.

    Attributes:
        noise_size: Standard normal numbers per sample. Nothing else is random, so any sample can be redrawn alone.
    """

    noise_size: int

    def __init__(self, config: Any, latent_size: int) -> None:
        """Keeps the sampler's config dataclass; subclasses allocate the tensors for latents of ``latent_size`` dims."""
        super().__init__()
        self.config = config
        self.latent_size = latent_size

    @classmethod
    def check(cls, config: Any, num: int, latent_size: int) -> None:
        """Checks, before anything is encoded, that it can be fitted to ``num`` latents of ``latent_size`` dims.

        Raises:
            UserError: It cannot.
        """

    def fit(self, latents: Latents, seed: int) -> None:
        """Fits to the latents, which are on the sampler's device.

        Raises:
            UserError: Latents that it cannot be fitted to.
        """
        raise NotImplementedError

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Draws latents.

        Args:
            noise: Standard normal, N x noise_size.
            std: 1 draws from the fitted density; less stays closer to its mode.

        Returns:
            N x L.
        """
        raise NotImplementedError
