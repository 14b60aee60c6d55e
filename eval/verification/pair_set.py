"""A fixed list of pairs in folds, over the images of any splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import SPLITS
from shards.loading.reader import Reader


@dataclass(frozen=True)
class PairSet:
    """P pairs of N different images.

    Attributes:
        image_splits: int64 (N,), positions in ``SPLITS``.
        image_rows: int64 (N,), rows of these splits; images are sorted by split and row.
        pairs: int64 (P, 2), positions among the N images.
        same: int64 (P,), 1 for one person, 0 for two; each fold has as many of either.
        fold: int64 (P,), from 0.
    """

    image_splits: np.ndarray
    image_rows: np.ndarray
    pairs: np.ndarray
    same: np.ndarray
    fold: np.ndarray

    @property
    def num_images(self) -> int:
        """Number of distinct images."""
        return len(self.image_rows)

    @property
    def num_folds(self) -> int:
        """Number of folds."""
        return len(np.unique(self.fold))

    def is_in_split(self, split: str) -> np.ndarray:
        """Whether either image of each pair is in a split, bool (P,)."""
        return (self.image_splits == SPLITS.index(split))[self.pairs].any(axis=1)

    def images(self, dataset: Dataset, positions: np.ndarray) -> np.ndarray:
        """Reads images by their positions (n,) among the N; uint8 (n, H, W, C).

        Raises:
            UserError: A damaged shard or image.
        """
        image = dataset.image
        out = np.empty((len(positions), image.height, image.width, image.channels), np.uint8)
        for number in np.unique(self.image_splits[positions]):
            (chosen,) = np.nonzero(self.image_splits[positions] == number)
            part = np.empty((len(chosen), *out.shape[1:]), np.uint8)
            Reader(dataset, SPLITS[number]).read_images(self.image_rows[positions[chosen]], part)
            out[chosen] = part
        return out

    def image_labels(self, dataset: Dataset, label: str) -> np.ndarray:
        """One label column of the N images."""
        columns = {split: dataset.labels(label, split) for split in dataset.splits}
        parts = [
            columns[SPLITS[number]][self.image_rows[self.image_splits == number]]
            for number in np.unique(self.image_splits)
        ]
        return np.concatenate(parts)

    def keys(self, dataset: Dataset, pair: int) -> list[str]:
        """The keys of the two images of a pair."""
        return [
            dataset.key(SPLITS[self.image_splits[image]], int(self.image_rows[image])) for image in self.pairs[pair]
        ]


def make_pair_set(refs: np.ndarray, same: np.ndarray, fold: np.ndarray) -> PairSet:
    """Makes a set of pairs in which each fold has as many pairs of one person as of two.

    Surplus pairs are left out, the last ones first, so that chance is 50 % in every fold.

    Args:
        refs: int64 (P, 2, 2): for both images of each pair the index of its split in ``SPLITS`` and its row.
        same: (P,), 1 or 0.
        fold: (P,).

    Raises:
        UserError: Fewer than two folds have pairs of both kinds.
    """
    kept = np.sort(np.concatenate([_balanced(same, fold, number) for number in np.unique(fold)] or [np.empty(0, int)]))
    refs, same, (folds, fold) = refs[kept], same[kept], np.unique(fold[kept], return_inverse=True)
    if len(folds) < 2:
        raise UserError(
            f"only {len(folds)} of the folds has pairs both of one person and of two, and thresholds come from other "
            "folds; use more splits (--split val test, or --all_splits) or more pairs."
        )
    images, pairs = np.unique(refs.reshape(-1, 2), axis=0, return_inverse=True)
    return PairSet(images[:, 0], images[:, 1], pairs.reshape(-1, 2), same.astype(np.int64), fold)


def _balanced(same: np.ndarray, fold: np.ndarray, number: int) -> np.ndarray:
    kinds: Sequence[np.ndarray] = [np.flatnonzero((fold == number) & (same == kind)) for kind in (0, 1)]
    num_each = min(map(len, kinds))
    return np.concatenate([kind[:num_each] for kind in kinds])


def batches(num: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the numbers from 0 to ``num`` in arrays of at most ``batch_size``."""
    for first in range(0, num, batch_size):
        yield np.arange(first, min(first + batch_size, num))
