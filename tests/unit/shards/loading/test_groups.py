"""Groups follow their kinds, and keep the promises of the plan: elastic, resumable, each sample at most once a kind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.loading.batch_plan import BatchPlan
from shards.loading.groups import GroupKind, GroupUnits
from shards.loading.loader import TrainLoader
from shards.loading.order import EpochOrder

SAME_PERSON = GroupKind(same=["person"], varies="pose")
SAME_POSE = GroupKind(same=["pose"], varies="person")


def dataset_of(sizes: tuple[int, ...] = (), **labels: Any) -> Dataset:
    """What groups need of a data set: bool, float (with NaN) and class (a list of names, None is missing) labels."""
    fields, columns = {}, {}
    for name, values in labels.items():
        if isinstance(values, list):
            fields[name] = LabelField("class", tuple(sorted({value for value in values if value is not None})))
        else:
            fields[name] = LabelField("bool" if values.dtype == bool else "float")
        columns[name] = fields[name].encode(list(values))
    num = len(next(iter(columns.values())))
    sizes = sizes or (num,)
    assert sum(sizes) == num
    return cast(
        Dataset,
        SimpleNamespace(
            fields=fields,
            labels=lambda name, split: columns[name],
            num_samples=lambda split: num,
            shard_sizes=lambda split: np.array(sizes),
        ),
    )


def fei(num_persons: int = 7, num_poses: int = 5) -> Dataset:
    """Every person once in every pose, on three shards of uneven size."""
    persons = [f"p{row // num_poses}" for row in range(num_persons * num_poses)]
    poses = np.arange(num_persons * num_poses, dtype=np.float32) % num_poses
    third = len(persons) // 3
    return dataset_of((third, 1, len(persons) - third - 1), person=persons, pose=poses)


def every_group(units: GroupUnits, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (groups, group size), and kind (groups,), of a whole epoch."""
    drawn = units.draw(np.arange(units.per_shard.sum()), epoch)
    kinds = drawn.labels["group_kind"].reshape(-1, units.unit_size)
    assert drawn.labels["group_kind"].dtype == np.int64
    assert (kinds == kinds[:, :1]).all()
    return drawn.rows.reshape(-1, units.unit_size), kinds[:, 0]


@st.composite
def messy_data(draw: st.DrawFn) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Persons and poses by chance, some missing; as columns too, -1 and NaN where missing."""
    num = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    person = random.integers(-1, draw(st.integers(1, 8)), num)
    pose = random.integers(-1, draw(st.integers(1, 8)), num).astype(np.float32)
    pose[pose < 0] = np.nan
    cut = draw(st.integers(0, num))
    names = [None if value < 0 else f"p{value}" for value in person]
    return dataset_of((cut, num - cut), person=names, pose=pose), person, pose


def most_groups(person: np.ndarray, pose: np.ndarray, group_size: int) -> int:
    """Disjoint groups of one person in different poses, counted by filling them greedily from the fullest pose."""
    found = 0
    for who in range(person.max(initial=-1) + 1):
        poses = pose[(person == who) & ~np.isnan(pose)]
        counts = np.sort(np.unique(poses, return_counts=True)[1])[::-1]
        while np.count_nonzero(counts) >= group_size:
            counts[:group_size] -= 1
            counts = np.sort(counts)[::-1]
            found += 1
    return found


@given(messy_data(), st.integers(2, 5), st.integers(0, 2**40), st.integers(0, 50))
def test_one_label_varies_in_a_group_and_the_others_do_not(
    data: tuple[Dataset, np.ndarray, np.ndarray], group_size: int, seed: int, epoch: int
) -> None:
    dataset, person, pose = data
    possible = most_groups(person, pose, group_size)
    if not possible:
        with pytest.raises(UserError, match=f"no group of {group_size}"):
            GroupUnits(dataset, "train", [SAME_PERSON], group_size, seed)
        return
    units = GroupUnits(dataset, "train", [SAME_PERSON], group_size, seed)
    groups, _ = every_group(units, epoch)
    assert len(groups) == possible  # As many as possible.
    assert len(np.unique(groups)) == groups.size  # No sample twice.
    for group in groups:
        assert len(set(person[group])) == 1 and person[group[0]] >= 0
        assert len(set(pose[group])) == group_size and not np.isnan(pose[group]).any()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**40), st.integers(0, 30))
def test_kinds_are_mixed_in_exactly_their_ratio(first: int, second: int, seed: int, epoch: int) -> None:
    kinds = [
        GroupKind(same=["person"], varies="pose", ratio=first),
        GroupKind(same=["pose"], varies="person", ratio=second),
    ]
    units = GroupUnits(fei(), "train", kinds, 3, seed)  # 7 groups of the first kind, 10 of the second.
    groups, found = every_group(units, epoch)
    rounds = min(7 // first, 10 // second)
    assert np.bincount(found).tolist() == units.num_groups == [rounds * first, rounds * second]
    for kind in (0, 1):
        assert len(np.unique(groups[found == kind])) == groups[found == kind].size


def test_the_mix_of_the_paper() -> None:
    one_to_ten = [*(GroupKind(same=["person"], varies="pose") for _ in range(3)), GroupKind(same=["pose"], ratio=10)]
    units = GroupUnits(fei(40, 5), "train", one_to_ten, 3, 0)
    assert units.num_groups == [6, 6, 6, 60]
    assert np.bincount(every_group(units, 0)[1]).tolist() == [6, 6, 6, 60]


@given(st.sampled_from([1, 2, 4]), st.integers(0, 15), st.integers(0, 2**40))
@settings(max_examples=50)
def test_any_world_size_draws_the_same_groups_and_resumes_anywhere(world_size: int, step: int, seed: int) -> None:
    def batch(rank: int, world_size: int) -> tuple[np.ndarray, np.ndarray]:
        # New objects, as in a resumed process: only the number of samples carries over.
        units = GroupUnits(fei(), "train", [SAME_PERSON, SAME_POSE], 3, seed)
        plan = BatchPlan(EpochOrder(units.per_shard, seed), 12, rank, world_size, units.unit_size)
        epoch, numbers = plan.batch(12 * step)
        drawn = units.draw(numbers, epoch)
        return drawn.rows, drawn.labels["group_kind"]

    units = GroupUnits(fei(), "train", [SAME_PERSON, SAME_POSE], 3, seed)
    plan = BatchPlan(EpochOrder(units.per_shard, seed), 12, unit_size=3)
    for earlier in range(step):  # One object that has drawn everything before.
        epoch, numbers = plan.batch(12 * earlier)
        units.draw(numbers, epoch)
    epoch, numbers = plan.batch(12 * step)
    alone = units.draw(numbers, epoch)
    shares = [batch(rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate([rows for rows, _ in shares]), alone.rows)
    assert np.array_equal(np.concatenate([kinds for _, kinds in shares]), alone.labels["group_kind"])


def test_every_epoch_deals_anew_and_every_sample_gets_a_turn() -> None:
    kinds = [SAME_PERSON, GroupKind(same=["pose"], varies="person", ratio=3)]
    units = GroupUnits(fei(31, 5), "train", kinds, 3, 0)  # 31 groups of the first kind, 50 of the second.
    assert units.num_groups == [16, 48]
    epochs = [every_group(units, epoch) for epoch in range(40)]
    dealt = {tuple(sorted(group)) for groups, _ in epochs for group in groups.tolist()}
    assert len(dealt) > 1000  # Of 40 * 64 groups.
    for kind in (0, 1):
        assert len(np.unique(np.concatenate([groups[kinds == kind].ravel() for groups, kinds in epochs]))) == 155
    again = every_group(GroupUnits(fei(31, 5), "train", kinds, 3, 0), 5)
    assert np.array_equal(again[0], epochs[5][0])
    assert not np.array_equal(again[0], every_group(GroupUnits(fei(31, 5), "train", kinds, 3, 1), 5)[0])


def test_groups_of_every_kind_have_their_home_among_their_own_rows() -> None:
    persons = [f"p{row // 4}" for row in range(40)]
    units = GroupUnits(dataset_of((8, 0, 20, 12), person=persons), "train", [GroupKind(same=["person"])], 4, 0)
    assert units.per_shard.tolist() == [2, 0, 5, 3]
    ends = np.cumsum([8, 0, 20, 12])
    groups, _ = every_group(units, 3)
    shards = np.searchsorted(ends, groups, side="right")
    assert np.array_equal(shards[:, 0], np.repeat(np.arange(4), units.per_shard))
    one_pool = GroupUnits(dataset_of((8, 0, 20, 12), person=persons), "train", [GroupKind()], 4, 0)
    assert one_pool.per_shard.tolist() == [2, 0, 5, 3]  # Spread over the shards, not all in the first.


def test_where_takes_only_some_samples() -> None:
    factor = ["smile", "yaw"] * 20
    degree = np.arange(40, dtype=np.float32) / 4
    dataset = dataset_of(factor=factor, degree=degree, glasses=np.arange(40) < 30, group=np.arange(40) // 20 * 1.0)
    kinds = [
        GroupKind(same=["group"], varies="degree", where=["factor=yaw", "glasses=true"]),
        GroupKind(same=["group"], where=["degree=2.25"], varies=None),
    ]
    rows, _ = every_group(GroupUnits(dataset, "train", kinds[:1], 5, 0), 0)
    assert sorted(rows.ravel()) == list(range(1, 31, 2))
    with pytest.raises(UserError, match="'same group, degree=2.25': the largest has 1; choose other labels"):
        GroupUnits(dataset, "train", kinds[1:], 5, 0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GroupKind(same=["person"], varies="pose", ratio=8), "ratio of 8 needs as many groups .* and there are 7"),
        (GroupKind(same=["pose", "person"]), "no group of 3 .* 'same pose and person': the largest has 1"),
        (GroupKind(where=["person=p9"]), "label 'person' has no value 'p9'; it has p0, p1"),
        (GroupKind(where=["pose=left"]), "'left' is not a value of the float label 'pose'"),
    ],
)
def test_impossible_kinds_are_explained(kind: GroupKind, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GroupUnits(fei(), "train", [kind], 3, 0)


def test_a_group_that_is_too_small_names_the_largest() -> None:
    with pytest.raises(UserError, match="the largest has 5; lower the group size to at most 5"):
        GroupUnits(fei(), "train", [SAME_PERSON], 11, 0)


def test_a_label_that_is_missing_is_named(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="no label 'person'"):
        GroupUnits(Dataset(tiny_dataset), "train", [SAME_PERSON], 3, 0)


@pytest.mark.parametrize(("options", "message"), [({"ratio": 0}, "at least 1"), ({"where": ["smile"]}, "label=value")])
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupKind(**options)


def test_the_loader_delivers_whole_groups(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    kinds = [GroupKind(same=["identity"], varies="smile"), GroupKind(same=["glasses"], varies="identity")]
    loader = TrainLoader(
        dataset, "train", global_batch_size=12, seed=0, units=GroupUnits(dataset, "train", kinds, 3, 0), num_threads=0
    )
    for _, batch in zip(range(10), loader, strict=False):
        kind = batch.labels["group_kind"]
        assert kind.dtype == torch.int64 and torch.equal(kind, kind.view(-1, 3)[:, :1].expand(-1, 3).reshape(-1))
        for group in range(4):
            part = {name: label[3 * group : 3 * group + 3].tolist() for name, label in batch.labels.items()}
            same, varies = ("identity", "smile") if part["group_kind"][0] == 0 else ("glasses", "identity")
            assert len(set(part[same])) == 1 and len(set(part[varies])) == 3


def test_dealing_many_samples_is_vectorized() -> None:
    num = 200_000
    labels = {"person": (np.arange(num) // 20).astype(np.float32), "pose": (np.arange(num) % 20).astype(np.float32)}
    dataset = dataset_of((num,), **labels)
    units = GroupUnits(dataset, "train", [SAME_PERSON, SAME_POSE], 11, 0)
    assert units.num_groups == [10_000, 10_000]
    assert units.draw(np.arange(4), 7).rows.shape == (44,)
