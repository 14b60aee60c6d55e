"""What a family is: networks, losses for each turn of a training step, and what it can do once trained.

The trainer, the snapshot loader and the evaluation ask this interface and never the family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from facegen.networks.conv import ImageShape
from facegen.randomness import SlotRandom


@dataclass
class TrainBatch:
    """One micro-batch on the device, augmented."""

    images: Tensor
    """float32, N x C x H x W in [-1, 1]."""
    labels: dict[str, Tensor]
    """Each N; see ``shards.dataset.LabelField`` for missing values."""
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


class Family(nn.Module):
    """Base of every family: a set of named networks and how they are trained and used.

    Attributes:
        turns: Names of the networks in the order in which a training step updates them; each has its own optimizer.
        can: What a trained model does: ``encode`` (images to latents), ``posterior`` (mean and log variance),
            ``decode`` (latents to images), ``sample`` (images from the prior).
        networks: The networks by name. Training gives ``losses`` their DDP-wrapped forms instead.
        latent_size: Number of latent dims; None where there are none.
        decoder_variance: Variance of the Gaussian decoder whose ELBO the objective is; None without a likelihood.
    """

    turns: ClassVar[tuple[str, ...]]
    can: ClassVar[frozenset[str]]
    networks: nn.ModuleDict
    latent_size: int | None = None
    decoder_variance: float | None = None

    def __init__(self, config: Any, image: ImageShape) -> None:
        """Keeps the family's config dataclass and the shape of its images."""
        super().__init__()
        self.config = config
        self.image = image

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The loss of one turn; every gradient passes through the forward of ``networks[turn]``."""
        raise NotImplementedError

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance (None for a deterministic encoder), N x L, of images N x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Latents N x L to images N x C x H x W in [-1, 1]."""
        raise NotImplementedError
