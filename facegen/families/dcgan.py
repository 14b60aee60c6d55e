"""DC-GAN: a generator against a convolutional discriminator (Radford et al. 2016), with what has been learned since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses.adversarial import (
    GanLoss,
    accuracy,
    fake_loss,
    generator_loss,
    gradient_penalty,
    real_loss,
    relativistic_loss,
    variance_term,
)
from facegen.losses.collapse import CollapseDetector
from facegen.losses.diff_augment import AugmentKind, diff_augment
from facegen.losses.terms import Term, values, weighted_sum
from facegen.networks.conv import ConvDecoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from facegen.networks.linear import decoder_start
from facegen.networks.norm import averages_kept
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.option_values import refuse_unused


@dataclass
class DCGANConfig:
    """Options of the DC-GAN; the moving average of the generator is ``ema.half_life_images``."""

    latent_size: int = 100
    """Number of latent dims."""
    loss: GanLoss | Literal["relativistic"] = "bce"
    """``bce``: the non-saturating cross entropy of logits. ``hinge``: the hinge loss (Lim and Ye 2017).
    ``relativistic``: the cross entropy of a real image being more real than a generated one (R3GAN, Huang et al. 2024);
    it needs r1_weight and r2_weight."""
    r1_weight: float = 0.0
    """Weight of the R1 penalty, half the squared gradient norm of the logits at real images; needs
    discriminator.norm none."""
    r2_weight: float = 0.0
    """Weight of the same penalty at generated images."""
    penalty_every_steps: int = 1
    """Steps from one of these penalties to the next, which then counts that many times (Karras et al. 2020)."""
    diff_augment: list[AugmentKind] = field(default_factory=list)
    """Changes to all images that the discriminator sees (DiffAugment, Zhao et al. 2020): color, translation, cutout.
    Ten thousand images need them."""
    augment_target: float | None = None
    """Choose the share of images that are changed so that the mean sign of the logits of real ones is this (ADA, 0.6 in
    Karras et al. 2020); null changes all."""
    augment_steps: int = 10_000
    """Steps in which that share can rise from 0 to 1."""
    architecture: Literal["dcgan", "conv"] = "dcgan"
    """Generator: ``dcgan``, transposed convolutions, or ``conv``, the decoder of the autoencoding families, which with
    ``--init pca`` starts as a Gaussian over the images' principal components."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Latents to images, with architecture dcgan."""
    network: ConvNetConfig = field(default_factory=ConvNetConfig)
    """Latents to images, with architecture conv."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """Images to logits."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("latent_size", "penalty_every_steps", "augment_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        check_penalty("r1_weight", self.r1_weight, self.discriminator)
        check_penalty("r2_weight", self.r2_weight, self.discriminator)
        if self.loss == "relativistic" and not (self.r1_weight and self.r2_weight):
            raise ValueError("loss relativistic does not converge without r1_weight and r2_weight; set both above 0.")
        if not (self.r1_weight or self.r2_weight):
            refuse_unused(self, ("penalty_every_steps",), "without r1_weight and r2_weight")
        if self.augment_target is not None and not -1 < self.augment_target < 1:
            raise ValueError(f"augment_target must be null or between -1 and 1, not {self.augment_target}.")
        if self.augment_target is not None and (self.loss == "relativistic" or not self.diff_augment):
            raise ValueError("augment_target needs diff_augment, and loss bce or hinge, whose logits have a sign.")
        if self.augment_target is None:
            refuse_unused(self, ("augment_steps",), "without augment_target")
        refuse_unused(
            self,
            ("network",) if self.architecture == "dcgan" else ("generator",),
            f"with architecture {self.architecture}",
        )


def check_penalty(name: str, weight: float, discriminator: DiscriminatorConfig) -> None:
    """Refuses a gradient penalty with batch norm, which makes each image's logit depend on all images.

    Raises:
        ValueError: A penalty with batch norm, or a negative weight.
    """
    if weight < 0:
        raise ValueError(f"{name} must not be negative, not {weight}.")
    if weight and discriminator.norm == "batch":
        raise ValueError(
            f"{name} penalizes the gradient of each image's own logit, and batch norm mixes the images: set "
            "discriminator.norm to none (and perhaps discriminator.spectral_norm to true)."
        )


class DCGAN(Family):
    """Generative adversarial network."""

    turns = ("discriminator", "generator")
    can = frozenset({"decode", "sample"})
    augment_share: Tensor

    def __init__(self, config: DCGANConfig, image: ImageShape) -> None:
        """Builds both players."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        self.collapse = CollapseDetector()
        self.uncompiled = ("discriminator",) if config.r1_weight or config.r2_weight else ()
        generator = (
            Generator(image, config.latent_size, config.generator)
            if config.architecture == "dcgan"
            else ConvDecoder(image, config.latent_size, config.network)
        )
        discriminator = Discriminator(image, config.discriminator)
        self.networks = nn.ModuleDict({"discriminator": discriminator, "generator": generator})
        if config.augment_target is not None:
            # In a buffer, which checkpoints hold, so that a resumed run decides as one that never stopped.
            self.register_buffer("augment_share", torch.zeros(()))
            self.observes = ("d_sign_real",)

    def linear_start(self) -> tuple[Grid, int] | None:
        """Asks for as many components as there are latents, with architecture conv."""
        return decoder_start(self.networks["generator"])

    def start_from(self, components: PrincipalComponents) -> None:
        """Becomes a Gaussian over the principal components of the images."""
        self.networks["generator"].start_from(components, noise_variance=0.0)  # type: ignore[operator]

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The adversarial loss of the player whose turn it is; each draws its own noise."""
        if turn == "discriminator":
            return self._discriminator_losses(networks, batch)
        fakes = self.forward_as_trained(networks, batch)
        seen, discriminator = self._seen(fakes, batch, "generator_fake"), networks["discriminator"]
        if self.config.loss == "relativistic":
            fake, real = discriminator([seen, self._seen(batch.images, batch, "generator_real")])
            loss = relativistic_loss(fake.logits, real.logits)
        else:
            loss = generator_loss(discriminator([seen])[0].logits, self.config.loss)
        return TurnLosses(loss, {"g_loss": loss.detach(), **variance_term("sample_variance", fakes)})

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Tensor:
        """As many samples as there are images."""
        return networks["generator"](batch.random.normal("prior_generator", self.config.latent_size))

    def _discriminator_losses(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        config = self.config
        prior = batch.random.normal("prior_discriminator", config.latent_size)
        with torch.no_grad(), averages_kept(networks["generator"]):
            fakes = networks["generator"](prior)
        groups = [self._seen(batch.images, batch, "real"), self._seen(fakes, batch, "fake")]
        step = batch.images_seen // batch.random.global_batch_size
        weights = {"r1": config.r1_weight, "r2": config.r2_weight} if step % config.penalty_every_steps == 0 else {}
        groups = [
            images.detach().requires_grad_(weights.get(name, 0) > 0)
            for name, images in zip(("r1", "r2"), groups, strict=True)
        ]
        real, fake = (judged.logits for judged in networks["discriminator"](groups))
        if config.loss == "relativistic":
            terms = {"d_loss": Term(relativistic_loss(real, fake))}
            judged_right = (real > fake).float().mean()
        else:
            terms = {"d_loss": Term(real_loss(real, config.loss) + fake_loss(fake, config.loss))}
            judged_right = accuracy(real, [fake])
        # Between two penalties 0 is logged, and at a penalty that many times its value: the mean is right.
        metrics = {name: real.new_zeros(()) for name in ("r1", "r2") if getattr(config, f"{name}_weight")}
        for name, images, logits in zip(("r1", "r2"), groups, (real, fake), strict=True):
            if images.requires_grad:
                terms[name] = Term(config.penalty_every_steps * gradient_penalty(images, logits), weights[name])
        metrics |= values(terms) | {"d_accuracy": judged_right, **variance_term("real_variance", batch.images)}
        if self.observes:
            metrics["d_sign_real"] = real.detach().sign().mean()
        return TurnLosses(weighted_sum(terms), metrics)

    def _seen(self, images: Tensor, batch: TrainBatch, name: str) -> Tensor:
        """What the discriminator sees of a group of images."""
        share = 1.0 if self.config.augment_target is None else self.augment_share
        return diff_augment(images, self.config.diff_augment, batch.random, f"diff_augment_{name}", share)

    def observe(self, means: Mapping[str, float]) -> None:
        """Changes more images when the discriminator knows the real ones, fewer when it does not."""
        if self.config.augment_target is not None:
            is_sure = means["d_sign_real"] > self.config.augment_target
            self.augment_share.add_((1 if is_sure else -1) / self.config.augment_steps).clamp_(0, 1)

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Warns when a player has won or the generated images are all alike."""
        return self.collapse.warnings(means)

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of latents."""
        return self.networks["generator"](latents)
