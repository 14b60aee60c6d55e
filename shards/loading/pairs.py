"""Pairs of faces for verification: the same person or not, new ones in every epoch, or fixed for evaluation.

Only images of people with at least two images are used. Each of them is as likely in a pair of one person as in a pair
of two, so that an image by itself says nothing about its pair.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.order import shuffled
from shards.loading.reader import Reader
from shards.loading.units import Drawn, rows_per_shard

SAME = "same"
"""Label of a pair: 1 for the same person, 0 for two."""
_DRAW, _HELD_OUT = 0, 1


class PairUnits:
    """Each unit is a pair of samples, side by side in the batch; both carry the label ``same``.

    Every image of a person with another one is the anchor of two units: with another image of the same person, and with
    one of somebody else. So half the units of an epoch are pairs of one person. The partner depends on (seed, epoch,
    unit) alone and may lie in any shard of the split; the unit's home is the shard of its anchor.

    Attributes:
        unit_size: 2.
        per_shard: int64 (shards of the split,), units whose anchor is in each shard.
    """

    unit_size = 2

    def __init__(self, dataset: Dataset, split: str, seed: int, identity: str = "identity") -> None:
        """Finds the people of a split.

        Args:
            dataset: Where the samples are.
            split: Which of its splits.
            seed: A whole number from 0; another seed draws other partners.
            identity: The class label that says who the person is; images without one are left out.

        Raises:
            UserError: No such label, or fewer than two people with two images each.
        """
        self._seed = seed
        self._anchors, people = _rows_in_company(dataset, split, identity)
        if not len(people) or people.min() == people.max():
            raise UserError(
                f"the {split} split of {dataset.address} has fewer than two people (label '{identity}') with two "
                "images each, so no pairs can be drawn; add images of the same people, or pack with another "
                "--val_fraction."
            )
        # Positions in `_grouped`, which holds the images person by person: each anchor's, and its person's first.
        by_person = np.argsort(people, kind="stable")
        self._grouped = self._anchors[by_person]
        self._position = np.empty_like(by_person)
        self._position[by_person] = np.arange(len(by_person))
        _, person, counts = np.unique(people, return_inverse=True, return_counts=True)
        self._count = counts[person]
        self._start = (np.cumsum(counts) - counts)[person]
        self.per_shard = 2 * rows_per_shard(dataset.shard_sizes(split), self._anchors)

    @property
    def num_anchors(self) -> int:
        """Images of people with at least two; unit ``2 a`` pairs anchor a with the same person, ``2 a + 1`` not."""
        return len(self._anchors)

    def draw(self, units: np.ndarray, epoch: int) -> Drawn:
        """Rows ``2 i`` and ``2 i + 1`` are the i-th pair: its anchor, and the partner of this epoch."""
        anchor, is_same = units // 2, 1 - units % 2
        start, count = self._start[anchor], self._count[anchor]
        # Of n images in a circle, person by person: the others of the anchor's person are the next count - 1 places
        # within their stretch, everybody else's the n - count places behind it.
        same = start + (self._position[anchor] - start + 1 + self._below(count - 1, units, epoch)) % count
        other = (start + count + self._below(self.num_anchors - count, units, epoch)) % self.num_anchors
        partner = self._grouped[np.where(is_same, same, other)]
        rows = np.stack([self._anchors[anchor], partner], axis=1).reshape(-1)
        return Drawn(rows, {SAME: np.repeat(is_same, 2)})

    def _below(self, bounds: np.ndarray, units: np.ndarray, epoch: int) -> np.ndarray:
        """A number in [0, bound) for each unit; bounds below 2**32."""
        random = hashed(units, self._seed, epoch, _DRAW) >> np.uint64(32)
        return (random * bounds.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


class Pairs(NamedTuple):
    """A list of pairs.

    Attributes:
        rows: int64 (pairs, 2), rows of the split.
        same: int64 (pairs,), 1 for the same person, 0 for two.
    """

    rows: np.ndarray
    same: np.ndarray


def held_out_pairs(dataset: Dataset, split: str, num: int, seed: int = 0, identity: str = "identity") -> Pairs:
    """A fixed list of pairs, alternately of one person and of two, without repeats, swapped ones included.

    Args:
        dataset: Where the samples are.
        split: Which of its splits.
        num: How many at most; always an even number, and fewer where the split has fewer (each image is an anchor
            once of each kind).
        seed: Which pairs.
        identity: As in ``PairUnits``.

    Raises:
        UserError: As ``PairUnits``.
    """
    units = PairUnits(dataset, split, seed, identity)
    anchors = shuffled(units.num_anchors, seed, _HELD_OUT)
    same, different = (_distinct(units.draw(2 * anchors + kind, 0).rows.reshape(-1, 2)) for kind in (0, 1))
    num_each = min(num // 2, len(same), len(different))
    rows = np.stack([same[:num_each], different[:num_each]], axis=1).reshape(-1, 2)
    return Pairs(rows, np.tile([1, 0], num_each))


def read_pairs(dataset: Dataset, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """First and second images, each uint8 (pairs, H, W, C), of int64 (pairs, 2) rows of a split.

    Raises:
        UserError: A damaged shard or image.
    """
    image = dataset.image
    images = torch.empty((*rows.shape, image.height, image.width, image.channels), dtype=torch.uint8)
    Reader(dataset, split).read_images(rows.reshape(-1), images.flatten(0, 1).numpy())
    return images[:, 0], images[:, 1]


def require_separate_people(dataset: Dataset, identity: str = "identity") -> None:
    """Checks that no person is in two splits: pairs of people seen in training say nothing about strangers.

    Raises:
        UserError: No such label, or a person in two splits.
    """
    people = {split: np.unique(_people(dataset, split, identity)) for split in dataset.splits}
    for first, second in combinations(people, 2):
        shared = np.setdiff1d(np.intersect1d(people[first], people[second]), [-1])
        if len(shared):
            name = dataset.fields[identity].classes[shared[0]]
            raise UserError(
                f"{len(shared)} people of {dataset.address}, such as {name}, are in its {first} and its {second} "
                "split, so that pairs would leak; pack it with --split_by identity."
            )


def hashed(numbers: np.ndarray, seed: int, *stream: int) -> np.ndarray:
    """A random 64-bit word for each number, the same on every platform and with every release of numpy.

    SplitMix64 (Steele, Lea and Flood 2014) from a start that ``SeedSequence`` gives: any part of a long sequence costs
    only itself.

    Args:
        numbers: int64 (n,), from 0.
        seed: Seed of the run, from 0.
        stream: What the words are for; different streams are independent.

    Returns:
        uint64 (n,).
    """
    start = int(np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0])
    words = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)


def _rows_in_company(dataset: Dataset, split: str, identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images whose person has another image, and their people."""
    people = _people(dataset, split, identity)
    _, person, counts = np.unique(people, return_inverse=True, return_counts=True)
    rows = np.flatnonzero((people >= 0) & (counts[person] > 1))
    return rows, people[rows]


def _people(dataset: Dataset, split: str, identity: str) -> np.ndarray:
    people = dataset.labels(identity, split)
    if dataset.fields[identity].kind != "class":
        raise UserError(
            f"label '{identity}' of {dataset.address} is a {dataset.fields[identity].kind} and names nobody; give the "
            "class label that says who the person is."
        )
    return people.astype(np.int64)


def _distinct(pairs: np.ndarray) -> np.ndarray:
    """The pairs without repetitions, swapped ones included, in their order."""
    _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
    return pairs[np.sort(first)]
