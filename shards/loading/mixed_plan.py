"""Batches of a mix with weights: which part fills which slot, and the endless passes of each part.

Lanes are as in ``shards.loading.batch_plan``, and each part has its own order in as many lanes. Along a lane, a
periodic pattern says which part fills the next slot; how many of the first t slots a part has filled is known in closed
form. So a part's place in its own line is a function of the slots seen, as for a single data set: every lane of a part
is passed from start to end again and again, each unit once a pass and none left out, in batches that any world size
cuts alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shards.base.errors import UserError
from shards.loading.batch_plan import BatchPlan
from shards.loading.order import EpochOrder

_MIN_LANE_UNITS = 100


class Pattern:
    """Which part fills the t-th slot of a lane, the parts spread evenly.

    Attributes:
        period: Slots after which it repeats.
    """

    def __init__(self, shares: Sequence[int]) -> None:
        """Takes how many slots of a period each part fills."""
        self.period = sum(shares)
        self._shares = np.array(shares, np.int64)
        filled, parts = np.zeros(len(shares), np.int64), np.empty(self.period, np.int64)
        for slot in range(self.period):
            parts[slot] = np.argmax((slot + 1) * self._shares - filled * self.period)  # The one that lags most.
            filled[parts[slot]] += 1
        self._parts = parts
        self._before = np.concatenate(
            [np.zeros((1, len(shares)), np.int64), np.cumsum(parts[:, None] == np.arange(len(shares)), axis=0)]
        )

    def parts(self, start: int, stop: int) -> np.ndarray:
        """The parts that fill the slots ``[start, stop)``, int64."""
        return self._parts[np.arange(start, stop) % self.period]

    def count(self, part: int, slot: int) -> int:
        """How many of the slots before ``slot`` a part fills."""
        passes, rest = divmod(slot, self.period)
        return int(passes * self._shares[part] + self._before[rest, part])


class MixedPlan(BatchPlan):
    """As ``BatchPlan``, for several orders with shares; an epoch is as many samples as all parts have together."""

    def __init__(
        self, orders: Sequence[EpochOrder], shares: Sequence[int], global_batch_size: int, rank: int, world_size: int
    ) -> None:
        """Takes an order of each part, all of as many lanes, whose units are numbered through, part after part.

        Raises:
            UserError: As ``BatchPlan``.
        """
        num_units = [order.num_units for order in orders]
        super().__init__(orders[0], global_batch_size, rank, world_size, num_units=sum(num_units))
        self.num_left_out = 0
        self._orders = list(orders)
        self._first_units = np.cumsum([0, *num_units]).tolist()
        self._first_shards = np.cumsum([0, *(order.num_shards for order in orders)]).tolist()
        self._pattern = Pattern(shares)
        # Each lane starts elsewhere in the pattern, so that every batch holds nearly the same number of each part.
        self._phases = [lane * self._pattern.period // orders[0].num_lanes for lane in self.lanes]

    def blocks_at(self, samples_seen: int) -> set[tuple[int, ...]]:
        """Part, epoch and block from which this rank takes the batch that follows after ``samples_seen`` samples."""
        self.check(samples_seen)
        slot = samples_seen // self._global_batch_size * self._lane_units
        found = set()
        for part, order in enumerate(self._orders):
            for lane, phase in zip(self.lanes, self._phases, strict=True):
                low, high = order.lane_starts[lane : lane + 2].tolist()
                place = self._pattern.count(part, phase + slot) - self._pattern.count(part, phase)
                epoch, inside = divmod(place, high - low)
                found.add((part, epoch, int(order.layout(epoch).blocks_at(low + inside))))
        return found

    def shards_from(self, blocks: Iterable[tuple[int, ...]]) -> np.ndarray:
        """What a reader of some blocks needs now and next: int64 numbers of shards, counted over all parts."""
        found = [
            self._orders[part].shards_from(epoch, [block]) + self._first_shards[part] for part, epoch, block in blocks
        ]
        return np.concatenate(found)

    def num_shards_in_turn(self, rank: int, num_ranks: int) -> int:
        """Most shards that some neighboring ranks read in turn, those of the next blocks included."""
        return 2 * len(self.lanes_of(rank, num_ranks)) * sum(order.block_shards for order in self._orders)

    def _plan(self, epoch: int, step: int) -> np.ndarray:
        num_steps = min(self._steps_at_once, self.steps_per_epoch - step)
        start = (epoch * self.steps_per_epoch + step) * self._lane_units
        stop = start + num_steps * self._lane_units
        lanes = [self._lane(lane, phase, start, stop) for lane, phase in zip(self.lanes, self._phases, strict=True)]
        return self._side_by_side(lanes)

    def _lane(self, lane: int, phase: int, start: int, stop: int) -> np.ndarray:
        """The units in the slots ``[start, stop)`` of a lane."""
        parts = self._pattern.parts(phase + start, phase + stop)
        units = np.empty(stop - start, np.int64)
        for part, order in enumerate(self._orders):
            first, last = (
                self._pattern.count(part, phase + slot) - self._pattern.count(part, phase) for slot in (start, stop)
            )
            units[parts == part] = _passes(order, lane, first, last) + self._first_units[part]
        return units


def _passes(order: EpochOrder, lane: int, first: int, last: int) -> np.ndarray:
    """The units at the places ``[first, last)`` of the endless passes of a lane, a pass an epoch."""
    low, high = order.lane_starts[lane : lane + 2].tolist()
    found = [np.empty(0, np.int64)]
    while first < last:
        epoch, inside = divmod(first, high - low)
        num = min(high - low - inside, last - first)
        found.append(order.rows(epoch, low + inside, low + inside + num))
        first += num
    return np.concatenate(found)


def mixed_orders(parts: Mapping[str, np.ndarray], seed: int, num_lanes: int) -> list[EpochOrder]:
    """An order of each part, independent of each other.

    Args:
        parts: int64 (shards,), samples of each shard, by the part's address.
        seed: Of the run.
        num_lanes: Of every order.

    Raises:
        UserError: A part with fewer samples than lanes.
    """
    for address, sizes in parts.items():
        if sizes.sum() < num_lanes:
            raise UserError(
                f"{address} has {sizes.sum()} training samples and canonical_nodes is {num_lanes}; take more samples, "
                "lower canonical_nodes, or leave this part out."
            )
    return [
        EpochOrder(sizes, seed, num_lanes=num_lanes, stream=(number,)) for number, sizes in enumerate(parts.values())
    ]


def lanes_that_fit(num_lanes: int, parts: Mapping[str, np.ndarray]) -> int:
    """As many lanes, or half or a quarter as many, so that the smallest part has long ones.

    Lanes of a part differ by one unit, and short ones would soon be whole passes ahead of others.
    """
    smallest = min(int(sizes.sum()) for sizes in parts.values())
    while num_lanes > 1 and smallest < num_lanes * _MIN_LANE_UNITS:
        num_lanes //= 2
    return num_lanes
