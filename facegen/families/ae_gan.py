"""AE-GAN: an autoencoder whose reconstructions must also fool a discriminator.

Squared error alone leaves out the skin, hair and edges that the latents do not say; the discriminator asks for likely
ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from facegen.families.ae import AE, AEConfig
from facegen.families.base import TrainBatch
from facegen.families.game import Game, GameConfig
from facegen.losses.terms import Term
from facegen.networks.conv_config import ImageShape


@dataclass
class AEGANConfig(GameConfig, AEConfig):
    """Options of the AE-GAN: those of the AE, and of the adversarial game."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        AEConfig.__post_init__(self)
        self.check_game()


class Reconstructed(NamedTuple):
    """The reconstructions of a batch, N x C x H x W; an AE cannot sample."""

    reconstructions: Tensor
    samples: None = None


class AEGAN(Game, AE):
    """Deterministic autoencoder with a discriminator of real images and reconstructions."""

    def __init__(self, config: AEGANConfig, image: ImageShape) -> None:
        """Builds both players."""
        super().__init__(config, image)
        self.add_discriminator()

    def generate(self, networks: Mapping[str, nn.Module], batch: TrainBatch, turn: str) -> Reconstructed:
        """Reconstructions."""
        return Reconstructed(networks["autoencoder"](batch.images))

    def reconstruction_terms(
        self, batch: TrainBatch, generated: Reconstructed
    ) -> tuple[dict[str, Term], dict[str, Tensor], None]:
        """The squared error."""
        error, mse = self.errors(batch.images, generated.reconstructions)
        return {"reconstruction": Term(error, self.config.pixel_weight)}, {"mse": mse}, None
