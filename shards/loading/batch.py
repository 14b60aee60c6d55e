"""One process's part of a batch: uint8 images, decoded into place, and labels as tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.decoded import DecodedImages
from shards.loading.reader import Reader


@dataclass(frozen=True)
class Batch:
    """Samples of one batch on one rank.

    Attributes:
        images: uint8 (N, H, W, C), C is 1 or 3 (RGB).
        labels: A tensor (N,) for each label field: float32 for a float (missing: NaN), int64 for a bool (0, 1; missing:
            -1) and for a class (position in the field's classes; missing: -1).
        rows: int64 (N,), rows of the split.
        epoch: Number of the epoch, from 0.
        first_slot: Position of the first sample within the global batch; 0 in evaluation.
    """

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    rows: torch.Tensor
    epoch: int = 0
    first_slot: int = 0


@dataclass(frozen=True)
class Share:
    """The samples of one batch, before they are read."""

    rows: np.ndarray
    epoch: int = 0
    first_slot: int = 0
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Labels of the units, in addition to those of the data set."""


class BatchReader:
    """Reads batches; thread-safe. Decoded images may stay in memory for later epochs."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        fields: Sequence[str] | None,
        pin_memory: bool = False,
        decoded_bytes: int = 0,
        images: bool = True,
    ) -> None:
        """As ``TrainLoader``."""
        self._images = images
        self._reader = Reader(dataset, split)
        self._shard_starts = [0, *itertools.accumulate(dataset.shard_sizes(split))]
        self._shape = (dataset.image.height, dataset.image.width, dataset.image.channels)
        self._decoded = DecodedImages(dataset.num_samples(split), self._shape, decoded_bytes)
        self._dataset, self._split = dataset, split
        self._fields = list(dataset.fields if fields is None else fields)
        self._labels(np.empty(0, np.int64))  # Checks the columns.
        self._pin_memory = pin_memory

    def __call__(self, shares: Sequence[Share]) -> tuple[list[Batch], UserError | None]:
        """Reads several batches at once, or takes them from memory.

        Returns:
            The batches up to the first with a damaged shard or image, and the error of that one.
        """
        sizes = [len(share.rows) for share in shares]
        rows = np.concatenate([share.rows for share in shares])
        shape = self._shape if self._images else (0, 0, 0)
        images = torch.empty((len(rows), *shape), dtype=torch.uint8, pin_memory=self._pin_memory)
        pixels = images.numpy()
        missing = self._decoded.take(rows, pixels) if self._images else rows[:0]
        error = None
        if len(missing):
            parts = np.split(missing, np.searchsorted(missing, np.cumsum(sizes)[:-1]))
            num_read, error = self._read(rows, pixels, parts)
            shares = shares[:num_read]
        columns = {name: _label_tensor(column).split(sizes) for name, column in self._labels(rows).items()}
        batches = []
        for position, (share, own) in enumerate(zip(shares, images.split(sizes), strict=False)):
            labels = {name: values[position] for name, values in columns.items()}
            labels |= {name: _label_tensor(values) for name, values in share.labels.items()}
            batches.append(Batch(own, labels, torch.from_numpy(share.rows), share.epoch, share.first_slot))
        return batches, error

    def _labels(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: self._dataset.labels(name, self._split, rows) for name in self._fields}

    def _read(
        self, rows: np.ndarray, pixels: np.ndarray, missing: Sequence[np.ndarray]
    ) -> tuple[int, UserError | None]:
        """Reads what is missing, batch by batch; returns the number of complete batches, and what ended it early."""
        for num_read, positions in enumerate(missing):
            try:
                self._reader.read_images(rows[positions], [pixels[position] for position in positions])
            except UserError as error:
                return num_read, error
            self._decoded.keep(rows, pixels, positions)
        return len(missing), None

    def expect(self, shards: Iterable[int]) -> None:
        """Prefetches remote shards that will be read soon."""
        if not self._images:
            return
        starts = self._shard_starts
        self._reader.expect(shard for shard in shards if not self._decoded.holds(starts[shard], starts[shard + 1]))


def _label_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32 if values.dtype == np.float32 else np.int64))
