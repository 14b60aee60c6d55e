"""The game that VAE-GAN and AE-GAN play: generated images must also fool a discriminator (Goodfellow et al. 2014)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.dcgan import check_penalty
from facegen.families.feature_error import FeatureError, FeatureErrorConfig
from facegen.losses.adversarial import (
    GanLoss,
    accuracy,
    adaptive_weight,
    fake_loss,
    generator_loss,
    gradient_norm,
    gradient_penalty,
    lecam_penalty,
    players_in_turn,
    real_loss,
    variance_term,
)
from facegen.losses.collapse import CollapseDetector
from facegen.losses.terms import Term, values, weighted_sum
from facegen.networks.gan import Discriminator, DiscriminatorConfig, Judgment, num_halvings
from facegen.networks.norm import averages_kept
from facegen.option_values import refuse_unused


class Observed(NamedTuple):
    """Two terms of past steps that steer the next one; averaged over processes, so that all agree."""

    terms: tuple[str, str]
    step_weight: float
    """Weight of the newest step in their moving averages; 1 keeps only that step."""


OBSERVED = {
    "d_losses": Observed(("d_loss_real", "d_loss_fake"), 1.0),
    "d_logits": Observed(("d_logit_real", "d_logit_fake"), 0.01),
    "gradient_norms": Observed(("reconstruction_gradient", "adversarial_gradient"), 1.0),
}
"""By the name of the buffer that holds their averages."""


@dataclass
class GameConfig(FeatureErrorConfig):
    """Options of the game, beside those of the autoencoder."""

    gan_loss: GanLoss = "hinge"
    """``hinge``: the hinge loss (Lim and Ye 2017). ``bce``: the non-saturating cross entropy of logits."""
    adversarial_weight: float = 0.03
    """Weight of the adversarial term beside the autoencoder's objective."""
    adaptive_weight: bool = False
    """Multiply adversarial_weight by the ratio of the gradient norms of reconstruction and adversarial term at the
    decoder's last layer (Esser et al. 2021), as measured in the previous step. Norms are averaged over micro-batches
    and processes, so that all agree; smaller micro-batches have longer, noisier gradients."""
    adversarial_start_images: int = 0
    """Images before the game starts: until then the autoencoder trains alone, and the discriminator waits."""
    feature_weight: float = 0.0
    """Weight of feature matching: the mean squared difference of discriminator features of images and
    reconstructions."""
    feature_layer: int = 2
    """Discriminator stage that gives these features, counted from 0 at the image."""
    pixel_weight: float = 1.0
    """Weight of the pixel error; 0 leaves reconstruction to the features, as in Larsen et al."""
    equilibrium: float = 0.68
    """Discriminator loss, on either side, at which the players are even; near ln 2."""
    equilibrium_margin: float | None = None
    """Skip the turn of a player that leads by more than this (0.35 in Larsen et al.); null skips none."""
    r1_weight: float = 0.0
    """Weight of the R1 penalty, half the squared gradient norm of the logits at real images; needs
    discriminator.norm none."""
    lecam_weight: float = 0.0
    """Weight of the LeCam penalty on the discriminator, for small data sets (Tseng et al. 2021)."""
    discriminator: DiscriminatorConfig = field(
        default_factory=lambda: DiscriminatorConfig(norm="none", spectral_norm=True)
    )
    """Images to logits; the report's discriminator has norm batch and no spectral_norm."""

    def check_game(self) -> None:
        """Rejects impossible values.

        Raises:
            ValueError: With the option and its value.
        """
        weights = ("adversarial_weight", "feature_weight", "pixel_weight", "lecam_weight")
        for name in (*weights, "adversarial_start_images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
        self.check_feature_error()
        check_penalty("r1_weight", self.r1_weight, self.discriminator)
        if self.feature_layer < 0:
            raise ValueError(f"feature_layer must not be negative, not {self.feature_layer}.")
        if not (self.pixel_weight or self.feature_weight or self.perceptual_weight):
            raise ValueError(
                "pixel_weight 0 needs a feature_weight or a perceptual_weight: otherwise nothing is reconstructed."
            )
        if self.equilibrium_margin is not None and self.equilibrium_margin <= 0:
            raise ValueError(f"equilibrium_margin must be positive or null, not {self.equilibrium_margin}.")
        if self.equilibrium_margin is not None and self.gan_loss != "bce":
            raise ValueError("equilibrium_margin is measured in cross entropy: set gan_loss bce.")
        if self.equilibrium_margin is None:
            refuse_unused(self, ("equilibrium",), "without an equilibrium_margin")
        if not self.feature_weight:
            refuse_unused(self, ("feature_layer",), "with feature_weight 0")
        if not self.adversarial_weight:
            refuse_unused(self, ("adaptive_weight",), "with adversarial_weight 0")


class Outcome(Protocol):
    """What an autoencoder made of a batch."""

    @property
    def reconstructions(self) -> Tensor:
        """N x C x H x W."""
        ...

    @property
    def samples(self) -> Tensor | None:
        """N x C x H x W; None where only reconstructions play."""
        ...


class Game(FeatureError):
    """An autoencoder's networks and a discriminator of real images, reconstructions and perhaps samples.

    A subclass says what is generated and what reconstruction costs; its other base is the autoencoder's family.
    """

    turns = ("discriminator", "autoencoder")

    def add_discriminator(self) -> None:
        """Adds the opponent to the autoencoder's networks, and the buffers for what past steps observed.

        Raises:
            ValueError: Options that do not fit the images.
        """
        config = self.config
        if config.feature_weight and config.feature_layer >= num_halvings(self.image):
            raise ValueError(
                f"feature_layer must be below the discriminator's {num_halvings(self.image)} stages, not "
                f"{config.feature_layer}."
            )
        if config.perceptual_weight:
            self.add_feature_net()
        self.collapse = CollapseDetector()
        self.networks["discriminator"] = Discriminator(self.image, config.discriminator)
        # In buffers, which checkpoints hold, so that a resumed run decides as one that never stopped.
        starts: dict[str, float] = {}
        if config.equilibrium_margin is not None:
            starts["d_losses"] = config.equilibrium
        if config.lecam_weight:
            starts["d_logits"] = 0.0
        if config.adaptive_weight:
            starts["gradient_norms"] = 0.0
        self.kept = list(starts)
        for name, start in starts.items():
            self.register_buffer(name, torch.full((2,), start))
        self.observes = tuple(term for name in self.kept for term in OBSERVED[name].terms)
        # The two gradient norms at the decoder's last layer are measured through both players.
        measured = ("autoencoder", "discriminator") if config.adaptive_weight else ("discriminator",)
        self.uncompiled = measured if config.adaptive_weight or config.r1_weight else ()

    @abstractmethod
    def generate(self, networks: Mapping[str, nn.Module], batch: TrainBatch, turn: str) -> Outcome:
        """What the autoencoder makes of a batch, with the noise of that turn."""

    @abstractmethod
    def reconstruction_terms(self, batch: TrainBatch, generated: Any) -> tuple[dict[str, Term], dict[str, Tensor], Any]:
        """The autoencoder's own objective, as ``TurnLosses.of_terms`` takes it; it has a term ``reconstruction``."""

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The loss of the player whose turn it is; each draws its own noise."""
        if turn == "discriminator":
            losses = self._discriminator_losses(networks, batch)
        else:
            losses = self._autoencoder_losses(networks, batch)
        losses.update = self._learns(turn, batch.images_seen)
        return losses

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Any:
        """What the autoencoder makes of a batch."""
        return self.generate(networks, batch, "autoencoder")

    def _learns(self, turn: str, images_seen: int) -> bool:
        config = self.config
        if images_seen < config.adversarial_start_images:
            return turn == "autoencoder"
        if config.equilibrium_margin is None:
            return True
        on_real, on_fakes = self.get_buffer("d_losses").tolist()
        learns = players_in_turn(on_real, on_fakes, config.equilibrium, config.equilibrium_margin)
        return learns[self.turns.index(turn)]

    def _discriminator_losses(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Real images against reconstructions and samples, in groups of one size.

        The generated groups share their side's weight. If each weighed as much as the real group, the players would
        not be even at logit 0 and a loss of ln 2, and the hinge would drive the logits of all groups below 0.
        """
        config, images = self.config, batch.images
        with torch.no_grad(), averages_kept(networks["autoencoder"]):
            generated = _groups(self.generate(networks, batch, "discriminator"))
        if config.r1_weight:
            images = images.detach().requires_grad_()
        real, *fakes = (judged.logits for judged in networks["discriminator"]([images, *generated]))
        fake = torch.cat(fakes)
        on_real, on_fakes = real_loss(real, config.gan_loss), fake_loss(fake, config.gan_loss)
        terms = {"d_loss": Term(on_real + on_fakes)}
        if config.r1_weight:
            terms["r1"] = Term(gradient_penalty(images, real), config.r1_weight)
        if config.lecam_weight:
            penalty = lecam_penalty(real, fake, *self.get_buffer("d_logits").tolist())
            terms["lecam"] = Term(penalty, config.lecam_weight)
        metrics = {
            "d_loss_real": on_real.detach(),
            "d_loss_fake": on_fakes.detach(),
            "d_logit_real": real.detach().mean(),
            "d_logit_fake": fake.detach().mean(),
            "d_accuracy": accuracy(real, fakes),
            **variance_term("real_variance", images),
        }
        return TurnLosses(weighted_sum(terms), values(terms) | metrics)

    def _autoencoder_losses(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The autoencoder's objective, and the game.

        Real images only take part as the target of feature matching: their logits do not depend on the autoencoder, so
        an adversarial term on them would have no gradient.
        """
        config = self.config
        generated = self.forward_as_trained(networks, batch)
        terms, metrics, kl_dims = self.reconstruction_terms(batch, generated)
        reconstruction = {"reconstruction": terms["reconstruction"]}
        layer = config.feature_layer if config.feature_weight else None
        groups = _groups(generated)
        judged: list[Judgment] = networks["discriminator"]([*groups, *([] if layer is None else [batch.images])], layer)
        if layer is not None:
            ours, real = judged[0].features, judged.pop().features
            assert ours is not None and real is not None
            reconstruction["feature_mse"] = Term((ours - real).square().mean(), config.feature_weight)
        if config.perceptual_weight:
            perceptual = self.perceptual(batch.images, generated.reconstructions)
            reconstruction["perceptual"] = Term(perceptual, config.perceptual_weight)
        game = torch.stack([generator_loss(judgment.logits, config.gan_loss) for judgment in judged]).sum()
        adversarial = Term(game, self._adversarial_weight(batch.images_seen))
        metrics["adversarial_weight"] = game.new_tensor(adversarial.weight)
        metrics |= variance_term("sample_variance", groups[-1])
        if config.adaptive_weight:
            metrics |= {
                "reconstruction_gradient": gradient_norm(weighted_sum(reconstruction), self.last_weight),
                "adversarial_gradient": gradient_norm(game, self.last_weight),
            }
        return TurnLosses.of_terms(terms | reconstruction | {"g_loss": adversarial}, metrics, kl_dims)

    def _adversarial_weight(self, images_seen: int) -> float:
        config = self.config
        if images_seen < config.adversarial_start_images:
            return 0.0
        if not config.adaptive_weight:
            return config.adversarial_weight
        return config.adversarial_weight * adaptive_weight(*self.get_buffer("gradient_norms").tolist())

    @property
    def last_weight(self) -> nn.Parameter:
        """Kernel of the decoder's last convolution; without convolutions, the last matrix that it learns."""
        decoder: nn.Module = self.networks["autoencoder"].decoder  # type: ignore[assignment]
        weights = [weight for weight in decoder.parameters() if weight.requires_grad and weight.ndim in (2, 4)]
        return max(reversed(weights), key=lambda weight: weight.ndim)

    def observe(self, means: Mapping[str, float]) -> None:
        """Updates the averages that the options in use need."""
        for name in self.kept:
            terms, step_weight = OBSERVED[name]
            average = self.get_buffer(name)
            average.lerp_(average.new_tensor([means[term] for term in terms]), step_weight)

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Warns of what the autoencoder warns of, and when a player has won or the generated images are all alike."""
        return super().warnings(means) + self.collapse.warnings(means)


def _groups(generated: Outcome) -> list[Tensor]:
    return [generated.reconstructions] if generated.samples is None else [generated.reconstructions, generated.samples]
