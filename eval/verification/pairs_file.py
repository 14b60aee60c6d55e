"""LFW's ``pairs.txt``: folds of 300 pairs of one person, then 300 of two, by name and number of image.

Format: http://vis-www.cs.umass.edu/lfw/README.txt. The first line holds the number of folds and of pairs of either kind
in each; a pair is ``name  i  j`` or ``name  i  other_name  j``, separated by tabs or spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.verification.pair_set import PairSet, make_pair_set
from shards.base.errors import UserError
from shards.base.records import read_text
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import SPLITS


@dataclass(frozen=True)
class PairsFile:
    """The pairs that the file lists, in its order.

    Attributes:
        keys: Keys of both images of each pair, such as ``Aaron_Eckhart_0001``.
        same: int64 (pairs,).
        fold: int64 (pairs,), from 0.
    """

    keys: tuple[tuple[str, str], ...]
    same: np.ndarray
    fold: np.ndarray


@dataclass(frozen=True)
class Kept:
    """The pairs of a file that are used, and why the others are not.

    Attributes:
        pairs: Pairs that are used.
        num_listed: Pairs in the file.
        num_missing: Pairs with an image that the data set lacks.
        num_elsewhere: Pairs with an image in another split.
        num_surplus: Pairs left out to balance each fold.
    """

    pairs: PairSet
    num_listed: int
    num_missing: int
    num_elsewhere: int
    num_surplus: int

    def __str__(self) -> str:
        """One sentence."""
        reasons = [
            f"{num:,} {reason}"
            for num, reason in (
                (self.num_missing, "have an image that is not in the data set"),
                (self.num_elsewhere, "have an image in another split"),
                (self.num_surplus, "were left out so that each fold has as many pairs of one person as of two"),
            )
            if num
        ]
        used = f"{len(self.pairs.same):,} of {self.num_listed:,} listed pairs are used"
        return used + (f": {', '.join(reasons)}." if reasons else ".")


def read_pairs_file(path: Path) -> PairsFile:
    """Reads the file.

    Raises:
        UserError: No such file, or another format.
    """
    lines = [line.split() for line in read_text(path, "give LFW's pairs.txt").splitlines() if line.strip()]
    try:
        num_folds, num_each = map(int, lines[0])
        pairs = [_parse(words) for words in lines[1:]]
        if min(num_folds, num_each) < 1:
            raise ValueError("there are no folds")
    except (ValueError, IndexError):
        raise UserError(
            f"{path} is not in the format of LFW's pairs.txt: a line '10 300' and then lines 'name 1 2' or "
            "'name 1 other_name 2'."
        ) from None
    if len(pairs) != 2 * num_folds * num_each:
        raise UserError(
            f"{path} announces {num_folds} folds of {num_each} pairs of each kind and lists {len(pairs):,} pairs; "
            "download it again."
        )
    same = np.array([is_same for _, is_same in pairs], np.int64)
    return PairsFile(tuple(keys for keys, _ in pairs), same, np.arange(len(pairs)) // (2 * num_each))


def find_pairs(listed: PairsFile, dataset: Dataset, splits: tuple[str, ...]) -> Kept:
    """Finds the images of a file's pairs by their keys.

    Args:
        listed: The file.
        dataset: Packed LFW.
        splits: Splits that hold both images of a pair.

    Raises:
        UserError: No image of the file is in the data set, or too few pairs are left.
    """
    refs = {key: (SPLITS.index(split), row) for split in dataset.splits for row, key in enumerate(dataset.keys(split))}
    is_there = np.array([first in refs and second in refs for first, second in listed.keys])
    if not is_there.any():
        raise UserError(
            f"no pair of the file is in {dataset.address}, whose keys look like '{next(iter(refs))}' and not like "
            f"'{listed.keys[0][0]}'; pack LFW with: python -m shards.pack lfw, or draw pairs with --num_pairs."
        )
    found = np.array([[refs[key] for key in keys] for keys, there in zip(listed.keys, is_there, strict=True) if there])
    allowed = np.isin(found[:, :, 0], [SPLITS.index(split) for split in splits]).all(axis=1)
    chosen = np.flatnonzero(is_there)[allowed]
    pairs = make_pair_set(found[allowed], listed.same[chosen], listed.fold[chosen])
    num_there, num_allowed = int(is_there.sum()), len(chosen)
    return Kept(pairs, len(is_there), len(is_there) - num_there, num_there - num_allowed, num_allowed - len(pairs.same))


def _parse(words: list[str]) -> tuple[tuple[str, str], int]:
    if len(words) == 3:
        name, first, second = words
        return (_key(name, first), _key(name, second)), 1
    name, first, other, second = words
    return (_key(name, first), _key(other, second)), 0


def _key(name: str, number: str) -> str:
    return f"{name}_{int(number):04d}"
