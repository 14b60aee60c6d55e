"""The interface of a family: its networks, the losses of each turn of a training step, and its abilities once trained.

The trainer, the snapshot loader and the evaluation use this interface and never the family's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from facegen.losses.terms import Term, values, weighted_sum
from facegen.networks.conv_config import ImageShape
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.randomness import SlotRandom
from shards.dataset.dataset import Dataset
from shards.loading.units import Units


@dataclass
class TrainBatch:
    """One micro-batch on the device, augmented."""

    images: Tensor
    """float32, N x C x H x W in [-1, 1]."""
    labels: dict[str, Tensor]
    """One value an image, N: the labels of the family and of its units; see ``LabelField`` for missing values."""
    random: SlotRandom
    """Random numbers that belong to these samples."""
    images_seen: int
    """Images of the run before this global batch; the position of every schedule."""
    rows: Tensor | None = None
    """Without images: their rows in the training split, int64 N."""
    mirrored: Tensor | None = None
    """Without images: which of them are mirrored, bool N."""


@dataclass
class TurnLosses:
    """The result of one network's turn: the loss to minimize and what to log."""

    loss: Tensor
    scalars: dict[str, Tensor] = field(default_factory=dict)
    """By name, means over the micro-batch, without a gradient."""
    kl_per_dim: Tensor | None = None
    """Mean over the micro-batch, L, without a gradient."""
    update: bool = True
    """False skips this update of the network; the same on every process and for every micro-batch."""

    @classmethod
    def of_terms(
        cls, terms: Mapping[str, Term], metrics: Mapping[str, Tensor], kl_per_dim: Tensor | None = None
    ) -> TurnLosses:
        """Weighs and sums the terms of a loss, once.

        Args:
            terms: What to minimize; logged under ``loss`` as their sum and, not weighted, under their own names.
            metrics: What else to log; takes the place of a term of the same name.
            kl_per_dim: As the field.
        """
        loss = weighted_sum(terms)
        return cls(loss, {"loss": loss.detach(), **values(terms), **metrics}, kl_per_dim)

    @property
    def terms(self) -> dict[str, Tensor]:
        """Everything to log, by name."""
        return self.scalars | ({} if self.kl_per_dim is None else {"kl_per_dim": self.kl_per_dim})


class FamilyPicture(NamedTuple):
    """A grid of faces that a family draws for TensorBoard."""

    images: Tensor
    """float, N x C x H x W in [-1, 1], row by row."""
    num_columns: int
    """Faces in a row; divides N."""


class Family(nn.Module):
    """Base of every family: a set of named networks and how they are trained and used.

    Attributes:
        turns: Names of the networks in the order in which a training step updates them; each has its own optimizer.
        can: Abilities of a trained model: ``encode`` (images to latents), ``posterior`` (mean and log variance),
            ``decode`` (latents to images), ``sample`` (images from the prior), ``verify`` (same person or not).
        identity: Label of the person, for a family that verifies; None for the others.
        condition: Label that conditions ``decode`` (NaN where unknown); None without a condition.
        condition_range: Smallest and largest value of that label in training; None without a condition.
        observes: Names of the terms that ``observe`` gets after each step.
        networks: The networks by name. Training passes their DDP-wrapped and compiled forms to ``losses`` instead.
        frozen_networks: Networks that ``losses`` uses and training never changes; not saved.
        uncompiled: Names of the networks through which ``losses`` backpropagates more than once in a turn, as a
            gradient penalty does; torch.compile does not support that.
        latent_size: Number of latent dims; None where there are none.
        decoder_variance: Variance of the Gaussian decoder whose ELBO the objective is; None without a likelihood.
        augmentable: Whether training images may be augmented; not where the family learns from the differences between
            the images of a unit.
        reads_images: Whether ``losses`` reads images; without them, batches hold rows and labels, and the only
            augmentation is to mirror.
        held_out: Names of what ``measure_held_out`` gives.
        num_flow_steps: Number of ``flow_step`` from noise to latents; None for a family without a flow.
        prior_is_learned: Whether ``latents_of_noise`` follows the latents of images, and not they a standard normal.
        file_options: Dotted names of config fields that only locate a file. A run resumes with the file in another
            place: the family itself checks the content.
    """

    turns: tuple[str, ...]
    can: ClassVar[frozenset[str]]
    observes: tuple[str, ...] = ()
    networks: nn.ModuleDict
    frozen_networks: Sequence[nn.Module] = ()
    uncompiled: tuple[str, ...] = ()
    identity: str | None = None
    condition: str | None = None
    condition_range: tuple[float, float] | None = None
    latent_size: int | None = None
    decoder_variance: float | None = None
    augmentable: ClassVar[bool] = True
    reads_images: ClassVar[bool] = True
    held_out: tuple[str, ...] = ()
    num_flow_steps: int | None = None
    prior_is_learned: ClassVar[bool] = False
    file_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, image: ImageShape) -> None:
        """Keeps the family's config dataclass and the shape of its images."""
        super().__init__()
        self.config = config
        self.image = image

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that training reads for ``losses``, ``posterior`` and ``decode``, beside those of the units.

        A data set may have many more, and moving them all to the device in every step takes time.
        """
        return tuple(name for name in (self.identity, self.condition) if name)

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Checks labels and loads frozen networks; called once, before training starts or resumes.

        Raises:
            UserError: Data or files that the family cannot train with.
        """

    def linear_start(self) -> tuple[Grid, int] | None:
        """The patches and the number of their principal components that ``start_from`` takes; None where it cannot."""
        return None

    def start_from(self, components: PrincipalComponents) -> None:
        """Becomes the best linear model of the training images, before the first step (``--init pca``)."""
        raise NotImplementedError

    def units(self, dataset: Dataset, split: str, seed: int) -> Units | None:
        """The groups or pairs that the plan draws from a split; None for single samples.

        Raises:
            UserError: Labels that make no unit.
        """
        return None

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The loss of one turn; every gradient passes through the forward of ``networks[turn]``."""
        raise NotImplementedError

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Any:
        """The forward by which ``losses`` trains the network of inference; its batch norm is estimated from it."""
        raise NotImplementedError

    def observe(self, means: Mapping[str, float]) -> None:
        """Takes the terms named in ``observes`` after each step, averaged over processes.

        State that follows from them belongs in buffers, so that checkpoints hold it.
        """

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Sentences about a failing training, from the means of its scalar terms over an epoch.

        Each begins with the kind of failure and a colon; the report counts the warnings of each kind.
        """
        return []

    def pictures(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, FamilyPicture]:
        """Further grids by name, beside reconstructions and samples, of held-out images N x C x H x W in [-1, 1]."""
        return {}

    def measure_held_out(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Further held-out metrics by name, N each, of held-out images N x C x H x W in [-1, 1]."""
        return {}

    def latents_of_noise(self, noise: Tensor) -> Tensor:
        """Latents N x L of standard normal noise N x L, from which ``decode`` makes samples."""
        return noise

    @property
    def codec(self) -> Family:
        """The family that encodes and decodes without a flow: this one, or the autoencoder that it is a prior of."""
        return self

    def flow_step(
        self, points: Tensor, times: Tensor, next_times: Tensor, labels: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Carries points of a flow from one time to the next; for a family with ``num_flow_steps``.

        Args:
            points: N x L: standard normal noise at time 0, standardized latents at time 1.
            times: N, in [0, 1].
            next_times: N.
            labels: As for ``decode``.

        Returns:
            The points at ``next_times``, and the same in the units of latents, each N x L.
        """
        raise NotImplementedError

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance (None for a deterministic encoder), N x L, of images N x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images N x C x H x W in [-1, 1] of latents N x L."""
        raise NotImplementedError

    def verify(self, first: Tensor, second: Tensor) -> Tensor:
        """Probabilities N that ``first`` and ``second``, faces N x C x H x W, are the same person, pair by pair."""
        raise NotImplementedError
