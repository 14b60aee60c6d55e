"""Who uses which units in which batch: a pure function of (samples seen, rank, world size), and of the order.

Each lane of the order gives every global batch the same number of units. The n-th batch of an epoch holds, lane after
lane, the positions ``[n * b, (n + 1) * b)`` of each, and rank r of W takes the slots ``[r * B / W, (r + 1) * B / W)``.
So the world size only cuts a batch and never changes it, the ranks of a machine follow a few lanes, and the whole state
is ``samples_seen``. An epoch leaves out what remains after its last whole batch: the ends of the lanes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from shards.base.errors import UserError
from shards.loading.order import EpochOrder

_PLANNED_UNITS = 16_384
"""Units planned at once: hundreds of small slices of lanes would take as long as copying a batch from memory."""


class BatchPlan:
    """The share of one rank of every global batch, without end.

    Holds a cache and no state: calls in any sequence, from any thread, give the same answers. ``samples_seen`` counts
    samples of all ranks, in whole global batches, each of whole units. Any other number is refused: it comes from a run
    with another global batch size.

    Attributes:
        steps_per_epoch: Global batches of an epoch, the same for every rank.
        epoch_size: Samples of an epoch, ``steps_per_epoch * global_batch_size``.
        num_left_out: Samples that each epoch leaves out, others every time: they fill no whole batch.
        first_slot: Where this rank's share starts in a global batch.
        local_batch_size: Samples of this rank's share.
        lanes: The lanes that this rank follows.
    """

    def __init__(
        self,
        order: EpochOrder,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        unit_size: int = 1,
        num_units: int | None = None,
    ) -> None:
        """Checks that every rank gets an equal share of every batch, in whole units.

        Args:
            order: The order of the units.
            global_batch_size: Samples of a batch over all ranks.
            rank: This process, from 0.
            world_size: How many processes there are.
            unit_size: Samples of a unit.
            num_units: Units of an epoch; those of the order when None.

        Raises:
            UserError: Numbers that don't go together, with the nearest that do.
        """
        _check_rank(rank, world_size)
        num_samples = (num_units or order.num_units) * unit_size
        check_global_batch_size(global_batch_size, world_size, num_samples, unit_size)
        _check_lanes(order.num_lanes, global_batch_size // unit_size)
        self._order = order
        self._global_batch_size = global_batch_size
        self._lane_units = global_batch_size // unit_size // order.num_lanes
        self.steps_per_epoch = num_samples // global_batch_size
        self.epoch_size = self.steps_per_epoch * global_batch_size
        self.num_left_out = num_samples - self.epoch_size
        self.local_batch_size = global_batch_size // world_size
        self._local_units = self.local_batch_size // unit_size
        self.first_slot = rank * self.local_batch_size
        self.lanes = self.lanes_of(rank)
        self._lane_starts = order.lane_starts[self.lanes.start : self.lanes.stop]
        self._first_unit = rank * self._local_units - self.lanes.start * self._lane_units
        self._steps_at_once = max(1, _PLANNED_UNITS // (len(self.lanes) * self._lane_units))
        self._planned = (-1, -1, np.empty((0, 0), np.int64))  # Replaced as one tuple, for thread safety.

    def lanes_of(self, rank: int, num_ranks: int = 1) -> range:
        """The lanes that some neighboring ranks follow."""
        start, stop = rank * self._local_units, (rank + num_ranks) * self._local_units
        return range(start // self._lane_units, -(-stop // self._lane_units))

    def check(self, samples_seen: int) -> None:
        """Checks that ``samples_seen`` is a whole number of global batches.

        Raises:
            UserError: It is not.
        """
        if samples_seen < 0 or samples_seen % self._global_batch_size:
            raise UserError(
                f"samples_seen = {samples_seen} is not a whole number of global batches of {self._global_batch_size}; "
                "resume with the global_batch_size that the run was started with."
            )

    def batch(self, samples_seen: int) -> tuple[int, np.ndarray]:
        """The share of this rank in the global batch that follows after ``samples_seen`` samples.

        Returns:
            The epoch, from 0, and int64 (local_batch_size / unit_size,) numbers of units.

        Raises:
            UserError: As ``check``.
        """
        epoch, step = self._place(samples_seen)
        number, row = divmod(step, self._steps_at_once)
        planned_epoch, planned_number, units = self._planned
        if (planned_epoch, planned_number) != (epoch, number):
            units = self._plan(epoch, number * self._steps_at_once)
            self._planned = (epoch, number, units)
        return epoch, units[row].copy()

    def blocks_at(self, samples_seen: int) -> set[tuple[int, ...]]:
        """Epoch and block from which this rank takes the batch that follows after ``samples_seen`` samples, by lane.

        Raises:
            UserError: As ``check``.
        """
        epoch, step = self._place(samples_seen)
        blocks = self._order.layout(epoch).blocks_at(self._lane_starts + step * self._lane_units)
        return {(epoch, block) for block in blocks.tolist()}

    def shards_from(self, blocks: Iterable[tuple[int, ...]]) -> np.ndarray:
        """What a reader of some blocks of one epoch needs now and next: int64 numbers of shards."""
        return self._order.shards_from(min(blocks)[0], [block for _, block in blocks])

    def num_shards_in_turn(self, rank: int, num_ranks: int) -> int:
        """Most shards that some neighboring ranks read in turn, those of the next blocks included."""
        return 2 * len(self.lanes_of(rank, num_ranks)) * self._order.block_shards

    def _place(self, samples_seen: int) -> tuple[int, int]:
        """Epoch, and number of the batch in it."""
        self.check(samples_seen)
        epoch, position = divmod(samples_seen, self.epoch_size)
        return epoch, position // self._global_batch_size

    def _plan(self, epoch: int, step: int) -> np.ndarray:
        """This rank's units of the batches from ``step`` on, as many as are planned at once, int64 (steps, units)."""
        start, stop = (
            number * self._lane_units for number in (step, min(step + self._steps_at_once, self.steps_per_epoch))
        )
        return self._side_by_side(
            [self._order.rows(epoch, lane + start, lane + stop) for lane in self._lane_starts.tolist()]
        )

    def _side_by_side(self, lanes: list[np.ndarray]) -> np.ndarray:
        """This rank's slots of some batches, int64 (steps, units), from the units of each of its lanes."""
        units = np.stack(lanes).reshape(len(lanes), -1, self._lane_units)  # Lanes x steps x units of a lane.
        units = units.transpose(1, 0, 2).reshape(-1, len(lanes) * self._lane_units)
        return np.ascontiguousarray(units[:, self._first_unit : self._first_unit + self._local_units])


def _check_lanes(num_lanes: int, units_per_batch: int) -> None:
    """Checks that each lane gives a batch the same number of units."""
    if units_per_batch % num_lanes:
        fitting = [number for number in range(1, units_per_batch + 1) if units_per_batch % number == 0]
        nearest = [*[number for number in fitting if number < num_lanes][-1:]]
        nearest += [number for number in fitting if number > num_lanes][:1]
        raise UserError(
            f"canonical_nodes {num_lanes} does not divide a global batch of {units_per_batch} units; use "
            f"{' or '.join(map(str, nearest))}."
        )


def check_global_batch_size(global_batch_size: int, world_size: int, num_samples: int, unit_size: int = 1) -> None:
    """Checks that each of ``world_size`` processes gets an equal, non-empty share of every global batch.

    Args:
        global_batch_size: Samples of a batch over all processes.
        world_size: How many processes there are.
        num_samples: Samples of an epoch, whole units.
        unit_size: Samples of a unit; a share is whole units.

    Raises:
        UserError: A sentence that names the number to change and the nearest right ones.
    """
    if num_samples < world_size * unit_size:
        raise UserError(
            f"{num_samples} training samples are too few for {world_size} processes; "
            f"start at most {num_samples // unit_size}."
        )
    share = world_size * unit_size
    largest = num_samples // share * share
    if global_batch_size < 1:
        raise UserError(f"global_batch_size must be at least {share}, not {global_batch_size}.")
    if global_batch_size > num_samples:
        raise UserError(
            f"global_batch_size {global_batch_size} is more than the {num_samples} samples; use at most {largest}."
        )
    if global_batch_size % share:
        below = global_batch_size // share * share
        nearest = [value for value in (below, below + share) if 0 < value <= largest]
        groups = f" in groups of {unit_size}" if unit_size > 1 else ""
        raise UserError(
            f"global_batch_size {global_batch_size} cannot be shared equally by {world_size} processes{groups}; "
            f"use {' or '.join(map(str, nearest))}."
        )


def evaluation_rows(num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[np.ndarray]:
    """The batches of one rank in evaluation: rows in sequence, each sample exactly once over all ranks, none dropped.

    The batches hold the same samples for any world size. Each rank takes neighboring ones, so the ranks of a machine,
    neighbors too, read a run of shards, and machines share only those at the borders. Some ranks, among them the first,
    may get one batch more than others: make no collective call inside the loop.

    Returns:
        An iterator of int64 arrays of ``batch_size`` rows, the last of all possibly shorter.

    Raises:
        UserError: A batch size below 1, or a rank outside of the world.
    """
    _check_rank(rank, world_size)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
    num_batches = -(-num_samples // batch_size)
    first, end = (-(-share * num_batches // world_size) for share in (rank, rank + 1))
    starts = range(first * batch_size, min(end * batch_size, num_samples), batch_size)
    return (np.arange(start, min(start + batch_size, num_samples)) for start in starts)


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise UserError(f"rank {rank} is not among the {world_size} processes; ranks count from 0.")
