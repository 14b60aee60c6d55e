"""Which sample is used when, and by whom: a pure function of (seed, epoch, samples seen, world size).

An epoch is one order of all units of a split. A *unit* is drawn as a whole: a sample, a group of samples or a pair; the
order knows only how many units each shard has. It is made in two steps: the shards are permuted and cut into blocks of
neighbors, then the units are shuffled within each block. So any position of any epoch can be computed by itself, and a
reader that follows the order uses the shards of one block at a time (two where blocks meet). A split that fits into one
block gets a uniform shuffle of all its units.

The n-th global batch of an epoch holds the positions ``[n * B, (n + 1) * B)`` of its order, and rank r of W takes the
slots ``[r * B / W, (r + 1) * B / W)`` of it. So the world size only cuts a batch and never changes it, and the whole
state is ``samples_seen``. An epoch leaves out what remains after its last whole batch.

Cost: three int64 of memory a shard, and one a unit of the current block. Ten million samples in 2,500 shards of 4,000
take 60 kB, and 0.5 MB for a block of 65,536 units; planning a whole epoch takes 0.4 seconds. A jump to any position is
one shuffle of the shards and one of a block: a few milliseconds. A billion samples in 100,000 shards of 10,000 (25 MB
each at 2.5 kB an image) are 14,286 blocks of 7 shards: 2.4 MB for the shards, 0.6 MB for a block, ten milliseconds for
a jump, and about 35 seconds for all blocks of an epoch, which one core takes 35 hours to decode. At that size the index
of the data set grows large (12 bytes a sample for offset and size: 12 GB), not the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shards.base.errors import UserError

TARGET_BLOCK_UNITS = 65_536
"""How many units a block should hold: two hundred batches of 256 before units of the same shards can meet again."""


def shuffled(num_items: int, seed: int, *stream: int) -> np.ndarray:
    """A uniform shuffle of ``0 .. num_items - 1``, the same on every platform and with every release of numpy.

    ``numpy.random.Generator`` may change its streams between releases; a resumed run must not. The raw output of Philox
    and the hash of ``SeedSequence`` are guaranteed, so these make the shuffle: random 64-bit keys, with the number of
    the item in the low bits, so that no two are equal and every sorting algorithm gives the same order.

    Args:
        num_items: How many.
        seed: Seed of the run, from 0.
        stream: What the shuffle is for; different streams are independent.

    Returns:
        int64 (num_items,).
    """
    keys = np.random.Philox(np.random.SeedSequence(seed, spawn_key=stream)).random_raw(num_items)
    low_bits = np.uint64((1 << max(0, num_items - 1).bit_length()) - 1)
    keys &= ~low_bits
    keys |= np.arange(num_items, dtype=np.uint64)
    keys.sort()
    keys &= low_bits
    return keys.view(np.int64)


def default_block_shards(shard_sizes: Sequence[int] | np.ndarray) -> int:
    """The number of shards of average size that hold ``TARGET_BLOCK_UNITS`` together."""
    mean_units = np.mean(shard_sizes) if len(shard_sizes) else 1
    return int(np.ceil(TARGET_BLOCK_UNITS / max(1, mean_units)))


class EpochOrder:
    """The order of the units of every epoch.

    Holds caches and no state: calls in any sequence, from any thread, give the same answers.

    Attributes:
        num_units: Units of the split.
        num_blocks: Blocks of an epoch.
    """

    def __init__(self, shard_sizes: Sequence[int] | np.ndarray, seed: int, block_shards: int | None = None) -> None:
        """Takes the layout of a split.

        Args:
            shard_sizes: Units of each shard, in index order; units are numbered through, shard after shard.
            seed: A whole number from 0; another seed is another order.
            block_shards: Most shards of a block; ``default_block_shards`` when None.

        Raises:
            UserError: A negative seed, or blocks of no shard.
        """
        if seed < 0:
            raise UserError(f"seed must be a whole number from 0, not {seed}.")
        if block_shards is not None and block_shards < 1:
            raise UserError(f"block_shards must be at least 1, not {block_shards}.")
        self._seed = seed
        self._shard_sizes = np.asarray(shard_sizes, np.int64)
        self._shard_starts = np.cumsum(self._shard_sizes) - self._shard_sizes
        self.num_units = int(self._shard_sizes.sum())
        num_shards = len(self._shard_sizes)
        self.num_blocks = -(-num_shards // (block_shards or default_block_shards(self._shard_sizes)))
        # Blocks of nearly equal size: a last block of one left-over shard would end every epoch with batches from that
        # shard alone.
        self._block_bounds = np.arange(self.num_blocks + 1) * num_shards // max(1, self.num_blocks)
        # Key and value of a cache are replaced together, as one tuple, for thread safety.
        self._epoch_cache = (-1, np.empty(0, np.int64), np.empty(0, np.int64))
        self._block_cache = (-1, -1, np.empty(0, np.int64))

    def rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """The units at the positions ``[start, stop)`` of an epoch's order.

        Args:
            epoch: Number of the epoch, from 0.
            start: First position, from 0.
            stop: End of the range, at most ``num_units``.

        Returns:
            int64 (stop - start,), numbers of units; for samples these are rows of the split.
        """
        assert 0 <= start <= stop <= self.num_units, (start, stop, self.num_units)
        shard_order, block_starts = self._epoch_layout(epoch)
        first, last = np.searchsorted(block_starts, [start, stop - 1], side="right") - 1
        parts = [np.empty(0, np.int64)]
        for block in range(first, last + 1) if start < stop else ():
            inside = slice(max(0, start - block_starts[block]), stop - block_starts[block])
            parts.append(self._block_rows(epoch, block, shard_order)[inside])
        return np.concatenate(parts)

    def block_at(self, epoch: int, position: int) -> int:
        """Number of the block at a position of an epoch's order."""
        _, block_starts = self._epoch_layout(epoch)
        return int(np.searchsorted(block_starts, position, side="right")) - 1

    def shards_from(self, epoch: int, block: int) -> np.ndarray:
        """What a reader of a block needs now and next: int64 numbers of its shards and of the next block's.

        The next block may be the first one of the next epoch.
        """
        shard_order, _ = self._epoch_layout(epoch)
        now = shard_order[self._block_bounds[block] : self._block_bounds[block + 1]]
        if block + 1 < self.num_blocks:
            following = shard_order[self._block_bounds[block + 1] : self._block_bounds[block + 2]]
        else:
            following = shuffled(len(self._shard_sizes), self._seed, epoch + 1, 0)[: self._block_bounds[1]]
        return np.concatenate([now, following])

    @property
    def block_shards(self) -> int:
        """Most shards of a block."""
        return int(np.diff(self._block_bounds).max(initial=0))

    def _epoch_layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's order of the shards, and the position at which each block starts."""
        cached_epoch, shard_order, block_starts = self._epoch_cache
        if cached_epoch != epoch:
            shard_order = shuffled(len(self._shard_sizes), self._seed, epoch, 0)
            ends = np.cumsum(self._shard_sizes[shard_order])
            block_starts = np.concatenate([[0], ends])[self._block_bounds]
            self._epoch_cache = (epoch, shard_order, block_starts)
        return shard_order, block_starts

    def _block_rows(self, epoch: int, block: int, shard_order: np.ndarray) -> np.ndarray:
        """All units of a block, in the epoch's order."""
        cached_epoch, cached_block, rows = self._block_cache
        if (cached_epoch, cached_block) != (epoch, block):
            shards = shard_order[self._block_bounds[block] : self._block_bounds[block + 1]]
            sizes = self._shard_sizes[shards]
            # With the block's shards end to end, a unit's number is its place plus the shift of its shard.
            shift = self._shard_starts[shards] - (np.cumsum(sizes) - sizes)
            rows = shuffled(int(sizes.sum()), self._seed, epoch, 1 + block)
            # The largest blocks are single shards, where gathering shifts would take half as long as the shuffle.
            rows += shift if len(shards) == 1 else np.repeat(shift, sizes)[rows]
            self._block_cache = (epoch, block, rows)
        return rows


class BatchPlan:
    """The share of one rank of every global batch, without end.

    ``samples_seen`` counts samples of all ranks, in whole global batches, each of whole units. Any other number is
    refused: it comes from a run with another global batch size.

    Attributes:
        steps_per_epoch: Global batches of an epoch, the same for every rank.
        epoch_size: Samples of an epoch, ``steps_per_epoch * global_batch_size``.
        num_left_out: Samples that each epoch leaves out, others every time: they fill no whole batch.
        first_slot: Where this rank's share starts in a global batch.
        local_batch_size: Samples of this rank's share.
    """

    def __init__(
        self, order: EpochOrder, global_batch_size: int, rank: int = 0, world_size: int = 1, unit_size: int = 1
    ) -> None:
        """Checks that every rank gets an equal share of every batch, in whole units.

        Args:
            order: The order of the units.
            global_batch_size: Samples of a batch over all ranks.
            rank: This process, from 0.
            world_size: How many processes there are.
            unit_size: Samples of a unit.

        Raises:
            UserError: Numbers that don't go together, with the nearest that do.
        """
        _check_rank(rank, world_size)
        check_global_batch_size(global_batch_size, world_size, order.num_units * unit_size, unit_size)
        self._order = order
        self._global_batch_size = global_batch_size
        self._unit_size = unit_size
        self.steps_per_epoch = order.num_units * unit_size // global_batch_size
        self.epoch_size = self.steps_per_epoch * global_batch_size
        self.num_left_out = order.num_units * unit_size - self.epoch_size
        self.local_batch_size = global_batch_size // world_size
        self.first_slot = rank * self.local_batch_size

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
        self.check(samples_seen)
        epoch, position = divmod(samples_seen, self.epoch_size)
        start = (position + self.first_slot) // self._unit_size
        return epoch, self._order.rows(epoch, start, start + self.local_batch_size // self._unit_size)

    def block_at(self, samples_seen: int) -> tuple[int, int]:
        """Epoch and block of the batch that follows after ``samples_seen`` samples.

        Raises:
            UserError: As ``check``.
        """
        self.check(samples_seen)
        epoch, position = divmod(samples_seen, self.epoch_size)
        return epoch, self._order.block_at(epoch, (position + self.first_slot) // self._unit_size)


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

    Batch i goes to rank ``i % world_size``, so the batches hold the same samples for any world size. Some ranks may get
    one batch more than others: make no collective call inside the loop.

    Returns:
        An iterator of int64 arrays of ``batch_size`` rows, the last of all possibly shorter.

    Raises:
        UserError: A batch size below 1, or a rank outside of the world.
    """
    _check_rank(rank, world_size)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
    starts = range(rank * batch_size, num_samples, world_size * batch_size)
    return (np.arange(start, min(start + batch_size, num_samples)) for start in starts)


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise UserError(f"rank {rank} is not among the {world_size} processes; ranks count from 0.")
