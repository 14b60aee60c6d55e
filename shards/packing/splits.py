"""Which sample goes into which split: pure functions of names and a seed, independent of the order of the listing.

The order comes from hashing each name with the seed, not from a random generator: an image gets the same place on every
machine, however the listing is sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shards.base.errors import UserError
from shards.base.names import hashes
from shards.dataset.manifest import SPLITS

TRAIN, VAL, TEST = range(len(SPLITS))


@dataclass(frozen=True)
class Fractions:
    """Shares of the samples held out; the rest is for training."""

    val: float
    test: float

    def __post_init__(self) -> None:
        """Checks the range.

        Raises:
            ValueError: A share below 0, or nothing left for training.
        """
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ValueError(
                f"val_fraction {self.val} and test_fraction {self.test} must be 0 or more and add up to less than 1."
            )

    def targets(self, num_samples: int) -> dict[int, int]:
        """Number of samples wanted in each held-out split; at least one if its share is above 0."""
        shares = {TEST: self.test, VAL: self.val}
        return {split: max(1, round(share * num_samples)) for split, share in shares.items() if share > 0}


def hashed_order(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """A shuffle that depends on the names and the seed only.

    Args:
        names: Unique names.
        seed: Any integer.
        purpose: Makes shuffles for different purposes independent.

    Returns:
        int64 (num_names,): positions in shuffled order.
    """
    values = hashes(names, salt=f"{seed}\0{purpose}\0")
    order = np.argsort(values)
    # Equal hashes are ordered by name, so that the listing's order never matters.
    is_unique = bool((values[order][1:] != values[order][:-1]).all())
    return order if is_unique else np.lexsort((np.array(list(names), dtype=object), values))


def split_by_sample(keys: Sequence[str], fractions: Fractions, seed: int) -> np.ndarray:
    """Splits sample by sample; the fractions are met exactly, up to rounding.

    Args:
        keys: Unique sample keys.
        fractions: Held-out shares.
        seed: Which of the possible splits.

    Returns:
        int8 (num_samples,): position in ``SPLITS``.

    Raises:
        UserError: So few samples that a split would stay empty.
    """
    splits = np.full(len(keys), TRAIN, np.int8)
    order = hashed_order(keys, seed, "split")
    start = 0
    for split, target in fractions.targets(len(keys)).items():
        splits[order[start : start + target]] = split
        start += target
    _require_samples(splits, fractions, f"{len(keys)} images", "add images, or pass --val_fraction 0 --test_fraction 0")
    return splits


def split_by_identity(
    keys: Sequence[str], identities: Iterable[str | None], fractions: Fractions, seed: int
) -> np.ndarray:
    """Splits person by person, so that no person is in two splits; fractions count images, not persons.

    Persons are visited in hashed order. A person joins a held-out split if that brings the split's number of images
    closer to its target, so a split misses it by at most half of its last person; otherwise the training split.

    Args:
        keys: Unique sample keys.
        identities: The person of each sample; a sample without one is a person of its own.
        fractions: Held-out shares.
        seed: Which of the possible splits.

    Returns:
        int8 (num_samples,): position in ``SPLITS``.

    Raises:
        UserError: So few persons that a split would stay empty.
    """
    # The prefixes tell a lone sample from a person of the same name.
    names = (f"key:{key}" if name is None else f"person:{name}" for key, name in zip(keys, identities, strict=True))
    persons: dict[str, int] = {}
    person_of_sample = np.fromiter((persons.setdefault(name, len(persons)) for name in names), np.int32, len(keys))
    num_images = np.bincount(person_of_sample)
    remaining = fractions.targets(len(keys))
    split_of_person = np.full(len(persons), TRAIN, np.int8)
    for person in hashed_order(list(persons), seed, "split"):
        for split in remaining:
            if num_images[person] <= 2 * remaining[split]:
                split_of_person[person] = split
                remaining[split] -= int(num_images[person])
                break
    splits = split_of_person[person_of_sample]
    _require_samples(splits, fractions, f"{len(persons)} identities", "change --val_fraction or pass --split_by sample")
    return splits


def split_by_partition(partitions: np.ndarray) -> np.ndarray:
    """The data set's own split; samples that it does not name are used for training.

    Args:
        partitions: int8 (num_samples,): position in ``SPLITS``, -1 for none.

    Returns:
        int8 (num_samples,): position in ``SPLITS``.
    """
    return np.where(partitions < 0, np.int8(TRAIN), partitions)


def _require_samples(splits: np.ndarray, fractions: Fractions, what: str, advice: str) -> None:
    for split in (TRAIN, *fractions.targets(len(splits))):
        if not (splits == split).any():
            raise UserError(f"{what} are too few: the {SPLITS[split]} split would be empty; {advice}.")
