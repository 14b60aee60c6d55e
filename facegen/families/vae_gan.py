"""VAE-GAN: a VAE whose reconstructions and samples must also fool a discriminator (Larsen et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facegen.families.base import TrainBatch
from facegen.families.game import Game, GameConfig
from facegen.families.vae import VAE, VAEConfig, VAETerms, VariationalNetwork
from facegen.losses.vae import reparameterize
from facegen.networks.conv_config import ImageShape


@dataclass
class VAEGANConfig(GameConfig, VAEConfig):
    """Options of the VAE-GAN: those of the VAE, and of the adversarial game."""

    judges_samples: bool = True
    """Show the discriminator samples of the prior beside reconstructions. Latents of thousands of dims, or maps, have
    none that a decoder could make faces of."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        VAEConfig.__post_init__(self)
        self.check_game()
        if self.decoder_sigma != "fixed":
            raise ValueError("decoder_sigma must be fixed: the adversarial term has no likelihood.")


class Generated(NamedTuple):
    """Reconstructions and samples of one forward, each N x C x H x W, and the posterior, each N x L."""

    reconstructions: Tensor
    samples: Tensor | None
    mu: Tensor
    logvar: Tensor


class GeneratingNetwork(VariationalNetwork):
    """Encoder and decoder that reconstruct images and decode noise in one forward, as DDP requires."""

    def forward(self, images: Tensor, noise: Tensor, prior: Tensor | None) -> Generated:  # type: ignore[override]
        """Encodes images N x C x H x W, samples with ``noise``, and decodes these latents and ``prior``, both N x L.

        The decoder gets both as one batch, because in eval mode both share its batch norm's averages.
        """
        mu, logvar = self.posterior(images)
        latents = reparameterize(mu, logvar, noise)
        if prior is None:
            return Generated(self.decoder(latents), None, mu, logvar)
        reconstructions, samples = self.decoder(torch.cat([latents, prior])).chunk(2)
        return Generated(reconstructions, samples, mu, logvar)


class VAEGAN(Game, VAE):
    """Variational autoencoder with a discriminator of real images, reconstructions and samples."""

    network_class = GeneratingNetwork

    def __init__(self, config: VAEGANConfig, image: ImageShape) -> None:
        """Builds both players."""
        super().__init__(config, image)
        self.add_discriminator()

    @property
    def pixel_weight(self) -> float:
        """Weight of the pixel error in the objective."""
        return self.config.pixel_weight

    @property
    def has_likelihood(self) -> bool:
        """Only without the game and without features."""
        config = self.config
        return not (config.adversarial_weight or config.feature_weight or config.perceptual_weight)

    def generate(self, networks: Mapping[str, nn.Module], batch: TrainBatch, turn: str) -> Generated:
        """Reconstructions from sampled latents, and samples, in one batch."""
        config = self.config
        noise = batch.random.normal(f"posterior_{turn}", config.latent_size)
        prior = batch.random.normal(f"prior_{turn}", config.latent_size) if config.judges_samples else None
        return networks["autoencoder"](batch.images, noise, prior)

    def reconstruction_terms(self, batch: TrainBatch, generated: Generated) -> VAETerms:
        """The VAE's objective."""
        return self.objective(batch, generated.reconstructions, generated.mu, generated.logvar)
