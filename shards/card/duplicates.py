"""Duplicates and near-duplicates: images alike in perceptual hash and in thumbnail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.card.pixel_measures import THUMBNAIL, Measures

MAX_DISTANCE = 8
"""Bits in which two hashes may differ. Aligned faces all look alike: the hash alone would find far too many pairs."""
MIN_CORRELATION = 0.975
"""Least correlation of two thumbnails: on LFW and CelebA at 64x64 the 28 pairs above it are copies of one
photograph, and the first two that are not have 0.971 and 0.972."""
_ROWS = 64


@dataclass(frozen=True)
class DuplicatePairs:
    """Pairs of images that look alike, the most alike first.

    Attributes:
        first: int64 (P,), position in ``Measures``.
        second: int64 (P,), position in ``Measures``, greater than ``first``.
        correlation: float32 (P,), of their thumbnails.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.first)

    def where(self, chosen: np.ndarray) -> DuplicatePairs:
        """Some of the pairs, by a bool array (P,) or their positions."""
        return DuplicatePairs(self.first[chosen], self.second[chosen], self.correlation[chosen])


def find_duplicates(measures: Measures) -> DuplicatePairs:
    """All pairs whose hashes differ in at most ``MAX_DISTANCE`` bits and whose thumbnails correlate.

    Plain images have no pattern to correlate and are in no pair. The time grows with the square of the number of
    images.
    """
    hashes, found = measures.hash, []
    for start in range(0, len(hashes), _ROWS):
        distances = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None, start:])
        first, second = np.nonzero(distances <= MAX_DISTANCE)
        later = first < second
        first, second = first[later] + start, second[later] + start
        correlation = (_patterns(measures.thumbnail[first]) * _patterns(measures.thumbnail[second])).sum(axis=1)
        alike = correlation >= MIN_CORRELATION
        found.append((first[alike], second[alike], correlation[alike]))
    first, second, correlation = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return DuplicatePairs(first, second, correlation).where(np.argsort(-correlation, kind="stable"))


def across_splits(pairs: DuplicatePairs, measures: Measures) -> DuplicatePairs:
    """The pairs whose images are in two splits: a model may have seen what it is tested on."""
    return pairs.where(measures.split[pairs.first] != measures.split[pairs.second])


def _patterns(thumbnails: np.ndarray) -> np.ndarray:
    """Float32 (N, 256) of mean 0 and length 1, whose products are correlations; 0 for a plain image."""
    values = thumbnails.reshape(-1, THUMBNAIL * THUMBNAIL).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
