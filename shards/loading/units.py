"""Units: what the plan draws as a whole. A sample, a sample of a subset, a group, a pair.

The plan orders units and knows nothing else of them. This turns the units of a batch into rows of the split, and may
add labels that say what each sample is in its unit. All of it is a pure function of the unit's number and the epoch, so
order, resume and world size work the same for single samples and for groups.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Drawn(NamedTuple):
    """The samples of some units, unit after unit.

    Attributes:
        rows: int64 (units * unit_size,), rows of the split.
        labels: Further labels by name, each (units * unit_size,), int64 or float32.
    """

    rows: np.ndarray
    labels: dict[str, np.ndarray]


class Units(Protocol):
    """What ``TrainLoader`` draws.

    Attributes:
        unit_size: Samples of each unit.
        per_shard: int64 (shards of the split,), units whose home is each shard. Units are numbered consecutively, shard
            after shard; those of neighboring shards are drawn together.
    """

    unit_size: int
    per_shard: np.ndarray

    def draw(self, units: np.ndarray, epoch: int) -> Drawn:
        """The samples of int64 (n,) units in an epoch; thread-safe."""
        ...


class SingleSamples:
    """Every sample of a split is a unit."""

    unit_size = 1

    def __init__(self, shard_sizes: np.ndarray) -> None:
        """Takes the number of samples of each shard, in index order."""
        self.per_shard = np.asarray(shard_sizes, np.int64)

    def draw(self, units: np.ndarray, epoch: int) -> Drawn:
        """The units are the rows."""
        return Drawn(units, {})


class ChosenSamples:
    """Each of some rows of a split is a unit; the others are left out."""

    unit_size = 1

    def __init__(self, shard_sizes: np.ndarray, chosen: np.ndarray) -> None:
        """Takes the number of samples of each shard, and bool (samples,): which to keep."""
        self._rows = np.flatnonzero(chosen)
        self.per_shard = rows_per_shard(shard_sizes, self._rows)

    def draw(self, units: np.ndarray, epoch: int) -> Drawn:
        """The n-th unit is the n-th chosen row."""
        return Drawn(self._rows[units], {})


def rows_per_shard(shard_sizes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How many of the rows, int64 (n,), lie in each shard; int64 (shards,)."""
    ends = np.cumsum(np.asarray(shard_sizes, np.int64))
    return np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(ends)).astype(np.int64)
