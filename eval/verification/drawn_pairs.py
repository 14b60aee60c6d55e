"""Pairs drawn from the labels of a data set that has no pairs file, in folds that share no person.

As in LFW's View 2, a classifier fitted on nine folds has not seen the people of the tenth.
"""

from __future__ import annotations

import numpy as np

from eval.verification.pair_set import PairSet, make_pair_set
from facegen.randomness import derive_seed
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import SPLITS

NUM_FOLDS = 10


def draw_pairs(
    dataset: Dataset, splits: tuple[str, ...], num: int, seed: int, identity: str, num_folds: int = NUM_FOLDS
) -> PairSet:
    """Draws distinct pairs, half of one person and half of two, determined by the seed.

    In each fold people take turns: an image is paired with another one of the same person and with one of somebody
    else. So nobody with many images dominates, and a single image says nothing about its pair.

    Args:
        dataset: Data set with the images.
        splits: Splits to draw from.
        num: Maximum number of pairs; fewer if a fold has no more.
        seed: Seed of the drawing.
        identity: Class label of the person; people with one image are left out.
        num_folds: Maximum number of folds; fewer if there are fewer than twice as many people.

    Raises:
        UserError: No such label, or fewer than four people with two images each.
    """
    if identity not in dataset.fields or dataset.fields[identity].kind != "class":
        raise UserError(
            f"data set {dataset.address} has no class label '{identity}' for the person; name one with "
            "--identity, or give a pairs file."
        )
    refs, people = _images_in_company(dataset, splits, identity)
    names = np.unique(people)
    num_folds = min(num_folds, len(names) // 2)
    if num_folds < 2:
        raise UserError(
            f"{' and '.join(splits)} of {dataset.address} has {len(names)} people with two images each, and two folds "
            "need at least four; use more splits."
        )
    random = np.random.default_rng(derive_seed(seed, "verification pairs"))
    fold_of = dict(zip(random.permutation(names).tolist(), np.arange(len(names)) % num_folds, strict=True))
    folds = np.array([fold_of[person] for person in people.tolist()])
    drawn = [
        _draw_fold(np.flatnonzero(folds == fold), people, num // (2 * num_folds), random) for fold in range(num_folds)
    ]
    pairs = np.concatenate([part for fold in drawn for part in fold])
    same = np.concatenate([np.full(len(part), kind) for fold in drawn for part, kind in zip(fold, (1, 0), strict=True)])
    fold_column = np.concatenate([np.full(len(part), number) for number, fold in enumerate(drawn) for part in fold])
    return make_pair_set(refs[pairs], same, fold_column)


def _images_in_company(dataset: Dataset, splits: tuple[str, ...], identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Split and row, int64 (N, 2), and person, (N,), of the images whose person has another image."""
    people = [dataset.labels(identity, split).astype(np.int64) for split in splits]
    refs = [
        np.stack([np.full(len(column), SPLITS.index(split)), np.arange(len(column))], axis=1)
        for split, column in zip(splits, people, strict=True)
    ]
    all_people, all_refs = np.concatenate(people), np.concatenate(refs)
    _, person, counts = np.unique(all_people, return_inverse=True, return_counts=True)
    kept = (all_people >= 0) & (counts[person] > 1)
    return all_refs[kept], all_people[kept]


def _draw_fold(
    images: np.ndarray, people: np.ndarray, num_each: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``num_each`` pairs of one person and of two, int64 (pairs, 2), among some images (positions)."""
    by_person = {person: random.permutation(images[people[images] == person]) for person in np.unique(people[images])}
    names = random.permutation(np.array(list(by_person)))
    # Everybody's first image, then everybody's second one, and so on.
    turns = max(map(len, by_person.values()))
    anchors = [(name, turn) for turn in range(turns) for name in names.tolist() if turn < len(by_person[name])]
    same: dict[tuple[int, int], None] = {}
    different: dict[tuple[int, int], None] = {}
    for name, turn in anchors:
        own = by_person[name]
        partner = own[(turn + 1 + random.integers(len(own) - 1)) % len(own)]
        same.setdefault(_ordered(own[turn], partner))
        other = names[(np.flatnonzero(names == name)[0] + 1 + random.integers(len(names) - 1)) % len(names)]
        different.setdefault(_ordered(own[turn], random.choice(by_person[other])))
    num_each = min(num_each, len(same), len(different))
    return tuple(np.array(list(kind)[:num_each], np.int64).reshape(-1, 2) for kind in (same, different))  # type: ignore[return-value]


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (int(min(first, second)), int(max(first, second)))
