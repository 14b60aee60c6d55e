"""What takes a model's place in the parts of a report that look at images only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.reader import Reader


class StandIn:
    """Images with those attributes of a model that parts with ``of_stand_ins`` use.

    Attributes:
        name: Name of its column.
        family: What it is, in words.
        can: Abilities, as a model's: ``sample``; ``encode`` and ``decode``.
        identity: Changes with its images; stored results are found by it.
        dataset_fingerprint: Of the data that the images come from; empty where that is not known.
        num_images: How many different ones there are; None for any number.
    """

    is_baseline = False
    """Whether runs have to beat it; else it is ranked among them."""
    is_constant = False
    """Whether it gives one image whatever the input: pictures leave it out."""
    condition: str | None = None
    condition_range: tuple[float, float] | None = None
    sampler: str | None = None
    prior_note = teacher = ""
    run_dir = None
    weights = ""
    step = images_seen = 0

    def __init__(
        self,
        name: str,
        family: str,
        can: set[str],
        identity: str,
        dataset_fingerprint: str = "",
        num_images: int | None = None,
    ) -> None:
        """Sets the attributes."""
        self.name, self.family, self.can, self.identity = name, family, frozenset(can), identity
        self.dataset_fingerprint, self.num_images = dataset_fingerprint, num_images

    def require(self, num: int) -> None:
        """Checks that there are so many different images.

        Raises:
            UserError: There are fewer, and no more can be made.
        """
        if not self.is_baseline and self.num_images is not None and self.num_images < num:
            raise UserError(
                f"{self.name} holds {self.num_images:,} images, fewer than the {num:,} samples that are compared; "
                f"set --num_samples {self.num_images}."
            )

    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> Tensor:
        """Images ``first`` to ``first + num - 1`` of a seed, float32 num x C x H x W in [-1, 1], as a model's samples.

        Raises:
            UserError: Another standard deviation, which finished images do not have.
        """
        raise NotImplementedError


def fixed(std: float, name: str) -> None:
    """Refuses a standard deviation for finished images.

    Raises:
        UserError: It is not 1.
    """
    if std != 1:
        raise UserError(f"the images of {name} have no standard deviation to set.")


def read_rows(dataset: Dataset, split: str, rows: Any) -> Tensor:
    """Images of a split as uint8 N x H x W x C."""
    image = dataset.image
    images = torch.empty((len(rows), image.height, image.width, image.channels), dtype=torch.uint8)
    Reader(dataset, split).read_images(rows, images.numpy())
    return images
