"""Groups as units of the plan: samples that share some labels and differ in one.

Every epoch forms new groups. For one *kind* of groups, such as "the same person in eleven poses", the samples that
share all labels of ``same`` form a *pool*. A pool gives as many groups as it can without using a sample twice and
without a value of ``varies`` twice in a group; a different rest of it sits out in every epoch. With several kinds, the
scarcest relative to its ratio sets the epoch length, and the groups of the others take turns over the epochs.

So an epoch visits a sample **at most once for each kind**, not exactly once. It misses a sample that its pool cannot
place, or whose kind has more groups than its share; it visits a sample of two kinds twice. All of it is a pure function
of (seed, epoch, number of the unit): elastic and resumable like single samples.

The groups of an epoch are dealt at once, on first use: one sort of the samples of each kind (about three seconds for
ten million), and 8 bytes a sample until the next epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.label_types import convert, from_cell
from shards.dataset.manifest import LabelField
from shards.loading.order import shuffled
from shards.loading.units import Drawn

GROUP_KIND = "group_kind"
"""Label of each sample: the position of its group's kind, int64."""

_ROWS_STREAM, _VALUES_STREAM = 0, 1


@dataclass
class GroupKind:
    """One way to form groups; samples that lack a label it names take no part."""

    same: list[str] = field(default_factory=list)
    """Labels that are equal within a group."""
    varies: str | None = None
    """The label whose values all differ within a group; null asks for different images only."""
    where: list[str] = field(default_factory=list)
    """Only samples with these values, each written label=value, such as group_factor=smile."""
    ratio: int = 1
    """Share of this kind among the groups, as a whole number: 1, 1, 1 and 10 give the last kind 10 groups of 13."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.ratio < 1:
            raise ValueError(f"the ratio of a kind of groups must be at least 1, not {self.ratio}.")
        for condition in self.where:
            if "=" not in condition:
                raise ValueError(f"where takes label=value, not '{condition}'.")

    def __str__(self) -> str:
        parts = [f"same {' and '.join(self.same)}"] if self.same else []
        parts += [f"different {self.varies}"] if self.varies else []
        return ", ".join([*parts, *self.where]) or "any samples"


class GroupUnits:
    """Groups of ``group_size`` samples; implements ``shards.loading.units.Units``.

    Attributes:
        unit_size: Samples of a group.
        per_shard: Groups whose home is each shard; the homes of a pool's groups spread evenly over its rows.
        num_groups: Groups of each kind in an epoch, in the exact ratio of the kinds.
    """

    def __init__(self, dataset: Dataset, split: str, kinds: Sequence[GroupKind], group_size: int, seed: int) -> None:
        """Finds the pools.

        Args:
            dataset: Where the labels are.
            split: Which of its splits.
            kinds: At least one.
            group_size: At least 2.
            seed: Seed of the deal.

        Raises:
            UserError: An unknown label or value, or a kind without a single group.
        """
        assert kinds and group_size > 1
        self.unit_size = group_size
        shard_ends = np.cumsum(dataset.shard_sizes(split))
        self._pools = [
            _Pools(*_table(dataset, split, kind), group_size, (seed, number), str(kind))
            for number, kind in enumerate(kinds)
        ]
        rounds = min(pools.num_groups // kind.ratio for pools, kind in zip(self._pools, kinds, strict=True))
        for pools, kind in zip(self._pools, kinds, strict=True):
            if pools.num_groups < kind.ratio:
                raise UserError(
                    f"a ratio of {kind.ratio} needs as many groups of '{kind}' and there are {pools.num_groups}; "
                    "lower it, or lower the group size."
                )
        self.num_groups = [rounds * kind.ratio for kind in kinds]
        # Where a kind has more groups than its share, each unit stands for a run of neighboring groups that take turns
        # over the epochs.
        self._starts = [
            np.arange(num + 1) * pools.num_groups // num
            for pools, num in zip(self._pools, self.num_groups, strict=True)
        ]
        home = np.concatenate(
            [
                np.searchsorted(shard_ends, pools.home_rows[starts[:-1]], side="right")
                for pools, starts in zip(self._pools, self._starts, strict=True)
            ]
        )
        order = np.argsort(home, kind="stable")
        self._kind = np.repeat(np.arange(len(kinds)), self.num_groups)[order]
        self._place = np.concatenate([np.arange(num) for num in self.num_groups])[order]
        self.per_shard = np.bincount(home, minlength=len(shard_ends)).astype(np.int64)

    def draw(self, units: np.ndarray, epoch: int) -> Drawn:
        """The groups of int64 (n,) units: rows (n * unit_size,) and the label ``group_kind``."""
        kinds, places = self._kind[units], self._place[units]
        rows = np.empty((len(units), self.unit_size), np.int64)
        for kind, (pools, starts) in enumerate(zip(self._pools, self._starts, strict=True)):
            place = places[kinds == kind]
            first, width = starts[place], starts[place + 1] - starts[place]
            rows[kinds == kind] = pools.deal(epoch)[first + (epoch + place) % width]
        return Drawn(rows.ravel(), {GROUP_KIND: np.repeat(kinds, self.unit_size)})


class _Pools:
    """All pools of one kind, side by side: the samples sorted by pool, then by the value that varies.

    Attributes:
        num_groups: Groups of an epoch, over all pools.
        home_rows: int64 (num_groups,), the row that says in which shard a group has its home, ascending.
    """

    def __init__(
        self, rows: np.ndarray, pool: np.ndarray, value: np.ndarray, group_size: int, stream: tuple[int, int], name: str
    ) -> None:
        """Takes the pool and the value, int64 (n,) from 0, of each row; ``stream`` is the seed and a number."""
        self._group_size = group_size
        self._seed, self._number = stream
        # A cell is one value in one pool.
        num_values = int(value.max(initial=0)) + 1
        cells, cell, cell_sizes = np.unique(pool * num_values + value, return_inverse=True, return_counts=True)
        cell_pool = cells // num_values
        groups = _num_groups(cell_pool, cell_sizes, group_size)
        if not groups.any():
            largest = int(np.bincount(cell_pool).max()) if len(rows) else 0
            raise UserError(
                f"no group of {group_size} can be made of '{name}': the largest has {largest}"
                + (f"; lower the group size to at most {largest}." if largest > 1 else "; choose other labels.")
            )
        used = groups[pool] > 0
        self._rows, self._cell = rows[used], cell[used]
        self._cell_pool, self._groups = cell_pool, groups
        self._first_group = np.cumsum(groups) - groups
        self.num_groups = int(groups.sum())
        self._to_home, self.home_rows = self._homes(pool[used])
        self._cache = (-1, np.empty((0, group_size), np.int64))

    def deal(self, epoch: int) -> np.ndarray:
        """The groups of an epoch by home: rows, int64 (num_groups, group_size)."""
        cached_epoch, groups = self._cache
        if cached_epoch != epoch:
            groups = self._dealt(epoch)[self._to_home]
            self._cache = (epoch, groups)  # As one tuple, for thread safety.
        return groups

    def _dealt(self, epoch: int) -> np.ndarray:
        """Rows of the groups, pool after pool, int64 (num_groups, group_size)."""
        # Values in random order within their pool, and samples in random order within their value.
        cells = shuffled(len(self._cell_pool), self._seed, epoch, self._number, _VALUES_STREAM)
        cells = cells[_stable_order(self._cell_pool[cells])]
        rank = np.empty_like(cells)
        rank[cells] = np.arange(len(cells))
        order = shuffled(len(self._rows), self._seed, epoch, self._number, _ROWS_STREAM)
        order = order[_stable_order(rank[self._cell[order]])]
        pool = self._cell_pool[self._cell]
        # At most as many samples of a value as the pool has groups: dealt to the groups in turn, no two of them meet.
        order = order[_rank_in_run(self._cell[order]) < self._groups[pool[order]]]
        pool = pool[order]
        member, group = np.divmod(_rank_in_run(pool), self._groups[pool])
        dealt = np.full((self.num_groups, self._group_size), -1, np.int64)
        seated = member < self._group_size
        dealt[(self._first_group[pool] + group)[seated], member[seated]] = self._rows[order][seated]
        assert (dealt >= 0).all(), "a pool was promised more groups than it fills"
        return dealt

    def _homes(self, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The groups by home, and the row of each home: those of a pool spread evenly over its rows."""
        order = np.argsort(pool, kind="stable")
        pools, first, size = np.unique(pool[order], return_index=True, return_counts=True)
        groups = self._groups[pools]
        place = np.arange(self.num_groups) - np.repeat(self._first_group[pools], groups)
        home = self._rows[order][
            np.repeat(first, groups) + place * np.repeat(size, groups) // np.repeat(groups, groups)
        ]
        by_home = np.argsort(home, kind="stable")
        return by_home, home[by_home]


def _table(dataset: Dataset, split: str, kind: GroupKind) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The samples that take part in a kind: their rows, pools and values, each int64 (n,), the latter two from 0."""
    num_samples = dataset.num_samples(split)
    takes_part = np.ones(num_samples, bool)
    for condition in kind.where:
        name, _, text = condition.partition("=")
        column = dataset.labels(name.strip(), split)
        takes_part &= column == _wanted(name.strip(), dataset.fields[name.strip()], text)
    names = [*kind.same, *([kind.varies] if kind.varies else [])]
    columns = {name: dataset.labels(name, split) for name in names}
    for name, column in columns.items():
        takes_part &= ~_is_missing(dataset.fields[name], column)
    rows = np.flatnonzero(takes_part)
    pool = np.zeros(len(rows), np.int64)
    for name in kind.same:
        _, codes = np.unique(columns[name][rows], return_inverse=True)
        _, pool = np.unique(pool * (codes.max(initial=0) + 1) + codes, return_inverse=True)
    if kind.varies is None:
        return rows, pool, np.arange(len(rows))
    _, value = np.unique(columns[kind.varies][rows], return_inverse=True)
    return rows, pool, value


def _wanted(name: str, label: LabelField, text: str) -> float:
    """The column's value for a text."""
    if label.kind == "class":
        if text.strip() not in label.classes:
            known = ", ".join(label.classes[:10]) + (", ..." if len(label.classes) > 10 else "")
            raise UserError(f"where: label '{name}' has no value '{text.strip()}'; it has {known}.")
        return label.classes.index(text.strip())
    value = convert([from_cell(text)], label.kind)[0]
    if value is None:
        raise UserError(f"where: '{text.strip()}' is not a value of the {label.kind} label '{name}'.")
    return np.float32(value)  # type: ignore[arg-type]


def _is_missing(label: LabelField, column: np.ndarray) -> np.ndarray:
    return np.isnan(column) if label.kind == "float" else column == label.missing


def _num_groups(cell_pool: np.ndarray, cell_sizes: np.ndarray, group_size: int) -> np.ndarray:
    """How many groups each pool gives, int64 (pools,): disjoint ones, no value twice in a group.

    ``k`` groups can be filled where ``sum over values of min(samples of the value, k) >= k * group_size``: there are
    enough samples, and none has to share a group with another of its value. The left side is concave in ``k``, so
    bisection finds the largest such ``k``.
    """
    num_pools = int(cell_pool.max(initial=-1)) + 1
    low = np.zeros(num_pools, np.int64)
    high = np.bincount(cell_pool, weights=cell_sizes, minlength=num_pools).astype(np.int64) // group_size
    while (low < high).any():
        middle = (low + high + 1) // 2
        usable = np.bincount(cell_pool, weights=np.minimum(cell_sizes, middle[cell_pool]), minlength=num_pools)
        fills = usable >= middle * group_size
        low, high = np.where(fills, middle, low), np.where(fills, high, middle - 1)
    return low


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Stable ``argsort`` of numbers from 0, several times as fast: sorts place and key as one number."""
    num = max(1, len(keys))
    return np.sort(keys * num + np.arange(len(keys))) % num


def _rank_in_run(keys: np.ndarray) -> np.ndarray:
    """The place of each key in its run of equal keys: 0, 1, 2, ..."""
    place = np.arange(len(keys))
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    return place - np.maximum.accumulate(np.where(is_first, place, 0))
