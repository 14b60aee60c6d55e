"""Duplicates and near-duplicates: images alike in perceptual hash and in thumbnail."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from shards.card.pixel_measures import THUMBNAIL, Measures

MAX_DISTANCE = 8
"""Bits in which two hashes may differ. Aligned faces all look alike: the hash alone would find far too many pairs."""
MIN_CORRELATION = 0.975
"""Least correlation of two thumbnails: on LFW and CelebA at 64x64 the 28 pairs above it are copies of one
photograph, and the first two that are not have 0.971 and 0.972."""
_ROWS, _COLUMNS = 64, 8_192


@dataclass(frozen=True)
class DuplicatePairs:
    """The most alike of the pairs of images that look alike, and how many there are.

    Attributes:
        num: Number of all pairs; those listed below are fewer where copies abound.
        first: int64 (P,), position in ``Measures``.
        second: int64 (P,), position in ``Measures``, greater than ``first``.
        correlation: float32 (P,), of their thumbnails, falling.
    """

    num: int
    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True)
class Duplicates:
    """Pairs of images that look alike."""

    within: DuplicatePairs
    """Both images are in one split."""
    across: DuplicatePairs
    """They are in two splits: a model may have seen what it is tested on."""


def find_duplicates(measures: Measures, num_listed: int) -> Duplicates:
    """All pairs whose hashes differ in at most ``MAX_DISTANCE`` bits and whose thumbnails correlate.

    Plain images have no pattern to correlate and are in no pair. The time grows with the square of the number of
    images; the memory does not, even if all of them are equal.

    Args:
        measures: Hashes, thumbnails and splits of the images.
        num_listed: Most pairs to list of each kind.
    """
    hashes, num = measures.hash, len(measures.hash)
    within = across = DuplicatePairs(0, *(np.empty(0, kind) for kind in (np.int64, np.int64, np.float32)))
    for start, column in itertools.product(range(0, num, _ROWS), range(0, num, _COLUMNS)):
        rows, columns = slice(start, start + _ROWS), slice(max(column, start), column + _COLUMNS)
        alike = np.bitwise_count(hashes[rows, None] ^ hashes[None, columns]) <= MAX_DISTANCE
        if not alike.any():
            continue
        candidates = np.flatnonzero(alike.any(axis=0)) + columns.start
        correlation = _patterns(measures.thumbnail[rows]) @ _patterns(measures.thumbnail[candidates]).T
        first, second = np.nonzero(alike[:, candidates - columns.start] & (correlation >= MIN_CORRELATION))
        found = DuplicatePairs(0, first + start, candidates[second], correlation[first, second])
        later, same = found.first < found.second, measures.split[found.first] == measures.split[found.second]
        within = _with_more(within, found, later & same, num_listed)
        across = _with_more(across, found, later & ~same, num_listed)
    return Duplicates(within, across)


def _with_more(pairs: DuplicatePairs, found: DuplicatePairs, chosen: np.ndarray, num_listed: int) -> DuplicatePairs:
    """Counts the chosen ones of the found pairs, too, and lists the most alike of all."""
    num = pairs.num + int(chosen.sum())
    if len(pairs.first) == num_listed:
        chosen = chosen & (found.correlation > pairs.correlation[-1])
    columns = [
        np.concatenate([getattr(pairs, name), getattr(found, name)[chosen]])
        for name in ("first", "second", "correlation")
    ]
    order = np.argsort(-columns[2], kind="stable")[:num_listed]
    return DuplicatePairs(num, *(column[order] for column in columns))


def _patterns(thumbnails: np.ndarray) -> np.ndarray:
    """Float32 (N, 256) of mean 0 and length 1, whose products are correlations; 0 for a plain image."""
    values = thumbnails.reshape(-1, THUMBNAIL * THUMBNAIL).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
