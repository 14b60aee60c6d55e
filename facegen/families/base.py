"""What a family is: networks, losses for each turn of a training step, and what it can do once trained.

The trainer, the snapshot loader and the evaluation ask this interface and never the family's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from facegen.losses.terms import Term, values, weighted_sum
from facegen.networks.conv import ImageShape
from facegen.randomness import SlotRandom
from shards.dataset.dataset import Dataset
from shards.loading.units import Units


@dataclass
class TrainBatch:
    """One micro-batch on the device, augmented."""

    images: Tensor
    """float32, N x C x H x W in [-1, 1]."""
    labels: dict[str, Tensor]
    """Each N: those that the family names, and its units'; see ``LabelField`` for missing values."""
    random: SlotRandom
    """Noise of exactly these samples."""
    images_seen: int
    """Images of the run before this global batch, the position of every schedule."""


@dataclass
class TurnLosses:
    """What one network's turn gives: the loss to minimize and what to log."""

    loss: Tensor
    scalars: dict[str, Tensor] = field(default_factory=dict)
    """Named terms, means over the micro-batch, without a gradient."""
    kl_per_dim: Tensor | None = None
    """Mean over the micro-batch, L, without a gradient."""
    update: bool = True
    """False leaves the network as it is this time; must be the same on every process and for every micro-batch."""

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
        """All that is to log, by name."""
        return self.scalars | ({} if self.kl_per_dim is None else {"kl_per_dim": self.kl_per_dim})


class FamilyPicture(NamedTuple):
    """A grid of faces that suits a family, for TensorBoard."""

    images: Tensor
    """float, N x C x H x W in [-1, 1], row after row."""
    num_columns: int
    """Faces in a row; divides N."""


class Family(nn.Module):
    """Base of every family: a set of named networks and how they are trained and used.

    Attributes:
        turns: Names of the networks in the order in which a training step updates them; each has its own optimizer.
        can: What a trained model does: ``encode`` (images to latents), ``posterior`` (mean and log variance),
            ``decode`` (latents to images), ``sample`` (images from the prior), ``verify`` (same person or not).
        identity: The label that says who the person is, for a family that verifies; None for the others.
        condition: The label that ``decode`` generates by (NaN where it is not known); None without a condition.
        condition_range: Smallest and largest value of that label in training; None without a condition.
        observes: Names of the terms that ``observe`` gets after each step.
        networks: The networks by name. Training gives ``losses`` their DDP-wrapped and compiled forms instead.
        frozen_networks: Networks that ``losses`` uses and nothing changes; they are in no file.
        uncompiled: Names of the networks through which ``losses`` goes backward more than once in a turn, as for a
            penalty on a gradient; torch.compile cannot do that.
        latent_size: Number of latent dims; None where there are none.
        decoder_variance: Variance of the Gaussian decoder whose ELBO the objective is; None without a likelihood.
        augmentable: Whether training images may be changed by chance; not where what differs between the images of a
            unit is what is learned.
        file_options: Names of the config's fields, dotted, that only say where a file lies. A run goes on with its file
            in another place, as the family itself checks the content.
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
    file_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, image: ImageShape) -> None:
        """Keeps the family's config dataclass and the shape of its images."""
        super().__init__()
        self.config = config
        self.image = image

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the data set that training reads for ``losses``, ``posterior`` and ``decode``, beside the units'.

        A data set may have many more; to hand them all out in every step would take time, on GPUs most.
        """
        return tuple(name for name in (self.identity, self.condition) if name)

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Called once before training starts or resumes: checks labels, loads frozen nets, which are not saved.

        Raises:
            UserError: Data or files that the family cannot be trained with.
        """

    def units(self, dataset: Dataset, split: str, seed: int) -> Units | None:
        """What the plan draws as a whole from a split; None for single samples.

        Raises:
            UserError: Labels from which no unit can be made.
        """
        return None

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The loss of one turn; every gradient passes through the forward of ``networks[turn]``."""
        raise NotImplementedError

    def observe(self, means: Mapping[str, float]) -> None:
        """Takes the terms named in ``observes`` after each step, averaged over processes.

        What is kept of them belongs into buffers, which checkpoints hold.
        """

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Sentences about a training that goes wrong, from the means of its scalar terms over an epoch.

        Each begins with what goes wrong and a colon: the report counts those that begin alike.
        """
        return []

    def pictures(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, FamilyPicture]:
        """Grids by name beside reconstructions and samples, from held-out images N x C x H x W in [-1, 1]."""
        return {}

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance (None for a deterministic encoder), N x L, of images N x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Latents N x L to images N x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def verify(self, first: Tensor, second: Tensor) -> Tensor:
        """Probability, N, that each face of ``first`` and that of ``second``, N x C x H x W, are the same person."""
        raise NotImplementedError
