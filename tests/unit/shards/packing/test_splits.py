"""Splits: disjoint persons, fractions met, no dependence on the order of the listing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.base.errors import UserError
from shards.packing.splits import (
    TEST,
    TRAIN,
    VAL,
    Fractions,
    hashed_order,
    split_by_identity,
    split_by_partition,
    split_by_sample,
)

TENTHS = Fractions(0.1, 0.1)


def people(sizes: list[int]) -> tuple[list[str], list[str | None]]:
    persons: list[str | None] = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return [f"k{position}" for position in range(len(persons))], persons


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=60, max_size=150),
    seed=st.integers(0, 5),
    val=st.sampled_from([0.05, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.25]),
)
def test_identity_split_properties(sizes: list[int], seed: int, val: float, test: float) -> None:
    keys, persons = people(sizes)
    fractions = Fractions(val, test)
    splits = split_by_identity(keys, persons, fractions, seed)

    for person in set(persons):
        assert len({split for split, other in zip(splits, persons, strict=True) if other == person}) == 1
    for split, fraction in ((VAL, val), (TEST, test)):
        assert abs((splits == split).sum() - fraction * len(keys)) <= max(sizes) / 2 + 1

    shuffled = np.random.default_rng(seed).permutation(len(keys))
    again = split_by_identity([keys[i] for i in shuffled], [persons[i] for i in shuffled], fractions, seed)
    assert (again == splits[shuffled]).all()


def test_one_large_person_does_not_break_the_fractions() -> None:
    keys, persons = people([530] + [1] * 4000 + [20] * 100)
    for seed in range(5):
        counts = np.bincount(split_by_identity(keys, persons, TENTHS, seed), minlength=3)
        assert abs(counts[VAL] / len(keys) - 0.1) < 0.005 and abs(counts[TEST] / len(keys) - 0.1) < 0.005


def test_samples_without_identity_stand_alone() -> None:
    keys = [f"k{position}" for position in range(200)]
    splits = split_by_identity(keys, [None] * 200, TENTHS, 0)
    assert np.bincount(splits).tolist() == [160, 20, 20]


def test_a_key_is_not_mistaken_for_a_person() -> None:
    keys = ["anna", *(f"k{position}" for position in range(99))]
    persons: list[str | None] = [None, "anna", *(f"p{position}" for position in range(98))]
    for seed in range(20):
        splits = split_by_identity(keys, persons, Fractions(0.5, 0), seed)
        if splits[0] != splits[1]:
            return
    pytest.fail("the image 'anna' and the person 'anna' always went together")


def test_too_few_persons_is_one_sentence() -> None:
    keys, persons = people([500, 500])
    with pytest.raises(UserError, match="2 identities are too few: the test split would be empty"):
        split_by_identity(keys, persons, TENTHS, 0)


def test_sample_split_is_exact_and_independent_of_order() -> None:
    keys = [f"k{position}" for position in range(1000)]
    splits = split_by_sample(keys, Fractions(0.05, 0.123), 3)
    assert np.bincount(splits).tolist() == [827, 50, 123]
    assert (split_by_sample(keys[::-1], Fractions(0.05, 0.123), 3) == splits[::-1]).all()
    assert (split_by_sample(keys, Fractions(0.05, 0.123), 4) != splits).any()
    with pytest.raises(UserError, match="2 images are too few"):
        split_by_sample(keys[:2], TENTHS, 0)


def test_partition_split() -> None:
    assert split_by_partition(np.array([VAL, -1, TEST, TRAIN], np.int8)).tolist() == [VAL, TRAIN, TEST, TRAIN]


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_impossible_fractions(val: float, test: float) -> None:
    with pytest.raises(ValueError, match="val_fraction"):
        Fractions(val, test)


def test_hashed_order_is_a_uniform_permutation_and_never_changes() -> None:
    names = [f"n{position}" for position in range(2000)]
    order = hashed_order(names, 0, "order")
    assert sorted(order) == list(range(2000))
    assert abs(np.corrcoef(order, np.arange(2000))[0, 1]) < 0.08
    assert abs(np.corrcoef(order, hashed_order(names, 1, "order"))[0, 1]) < 0.08
    # Published data sets depend on this order: changing it changes the format.
    assert hashed_order(["a", "b", "c", "d", "e"], 0, "order").tolist() == [4, 1, 3, 0, 2]
