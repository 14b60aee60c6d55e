"""DC-GAN: a generator trained against a convolutional discriminator (Radford et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses.adversarial import (
    GanLoss,
    accuracy,
    fake_loss,
    generator_loss,
    r1_penalty,
    real_loss,
    variance_term,
)
from facegen.losses.collapse import CollapseDetector
from facegen.losses.terms import Term, values, weighted_sum
from facegen.networks.conv_config import ImageShape
from facegen.networks.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from facegen.networks.norm import averages_kept


@dataclass
class DCGANConfig:
    """Options of the DC-GAN; the moving average of the generator is ``ema.half_life_images``."""

    latent_size: int = 100
    """Number of latent dims."""
    loss: GanLoss = "bce"
    """``bce``: the non-saturating cross entropy of logits. ``hinge``: the hinge loss (Lim and Ye 2017)."""
    r1_weight: float = 0.0
    """Weight of the R1 penalty, half the squared gradient norm of the logits at real images; needs
    discriminator.norm none."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Latents to images."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """Images to logits."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, not {self.latent_size}.")
        check_r1(self.r1_weight, self.discriminator)


def check_r1(r1_weight: float, discriminator: DiscriminatorConfig) -> None:
    """Refuses R1 with batch norm, which makes each image's logit depend on all images.

    Raises:
        ValueError: R1 with batch norm, or a negative weight.
    """
    if r1_weight < 0:
        raise ValueError(f"r1_weight must not be negative, not {r1_weight}.")
    if r1_weight and discriminator.norm == "batch":
        raise ValueError(
            "r1_weight penalizes the gradient of each image's own logit, and batch norm mixes the images: set "
            "discriminator.norm to none (and perhaps discriminator.spectral_norm to true)."
        )


class DCGAN(Family):
    """Generative adversarial network of strided convolutions."""

    turns = ("discriminator", "generator")
    can = frozenset({"decode", "sample"})

    def __init__(self, config: DCGANConfig, image: ImageShape) -> None:
        """Builds both players."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        self.collapse = CollapseDetector()
        self.uncompiled = ("discriminator",) if config.r1_weight else ()
        self.networks = nn.ModuleDict(
            {
                "discriminator": Discriminator(image, config.discriminator),
                "generator": Generator(image, config.latent_size, config.generator),
            }
        )

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The adversarial loss of the player whose turn it is; each draws its own noise."""
        if turn == "discriminator":
            prior = batch.random.normal("prior_discriminator", self.config.latent_size)
            return self._discriminator_losses(networks, batch.images, prior)
        fakes = self.forward_as_trained(networks, batch)
        (judged,) = networks["discriminator"]([fakes])
        loss = generator_loss(judged.logits, self.config.loss)
        return TurnLosses(loss, {"g_loss": loss.detach(), **variance_term("sample_variance", fakes)})

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Tensor:
        """As many samples as there are images."""
        return networks["generator"](batch.random.normal("prior_generator", self.config.latent_size))

    def _discriminator_losses(self, networks: Mapping[str, nn.Module], images: Tensor, prior: Tensor) -> TurnLosses:
        config = self.config
        with torch.no_grad(), averages_kept(networks["generator"]):
            fakes = networks["generator"](prior)
        if config.r1_weight:
            images = images.detach().requires_grad_()
        real, fake = (judged.logits for judged in networks["discriminator"]([images, fakes]))
        terms = {"d_loss": Term(real_loss(real, config.loss) + fake_loss(fake, config.loss))}
        if config.r1_weight:
            terms["r1"] = Term(r1_penalty(images, real), config.r1_weight)
        metrics = {"d_accuracy": accuracy(real, [fake]), **variance_term("real_variance", images)}
        return TurnLosses(weighted_sum(terms), values(terms) | metrics)

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Warns when a player has won or the generated images are all alike."""
        return self.collapse.warnings(means)

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of latents."""
        return self.networks["generator"](latents)
