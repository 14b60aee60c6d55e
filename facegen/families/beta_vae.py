"""beta-VAE (Higgins et al. 2017): the VAE with summed terms and a KL weight, beta, above 1."""

from __future__ import annotations

from dataclasses import dataclass

from facegen.families.vae import VAE, VAEConfig
from facegen.losses.vae import Reduction


@dataclass
class BetaVAEConfig(VAEConfig):
    """Options of the beta-VAE; beta is kld_weight."""

    latent_size: int = 32
    """Number of latent dims."""
    kld_weight: float = 4.0
    """Beta, the weight of the KL divergence; usually 2 to 10, and 500 collapses."""
    reconstruction: Reduction = "sum"
    """``sum``: squared error and KL both summed. ``mean``: per pixel value, and the KL divided by latent_size."""


class BetaVAE(VAE):
    """The VAE's network and losses under the beta-VAE's defaults."""
