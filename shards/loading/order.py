"""The order of the units of every epoch: a pure function of (seed, epoch), of which any part can be computed by itself.

A *unit* is drawn as a whole: a sample, a group of samples or a pair; the order knows only how many units each shard
has. The shards of an epoch are permuted and laid end to end. This line is cut into equal *lanes*, each lane into blocks
of neighboring shards, and the units are shuffled within each block. A reader that follows a lane uses the shards of one
block at a time (two where blocks meet). A split that fits into one block of one lane gets a uniform shuffle of all its
units.

The batches of an epoch go down all lanes side by side (``shards.loading.batch_plan``), and machines share the lanes.
So a machine reads its lanes' shards alone, and a batch is still mixed from all over the line.

Cost: six int64 of memory a shard, and one a unit of a block of each lane. Ten million samples in 2,500 shards of 4,000
take 120 kB, and 0.5 MB for blocks of 65,536 units together; planning a whole epoch takes 0.4 seconds. A jump to any
position is one shuffle of the shards and one of a block of each lane: a few milliseconds. A billion samples in 100,000
shards of 10,000 (25 MB each at 2.5 kB an image) are 14,286 blocks of 7 shards: 4.8 MB for the shards, 0.6 MB for a
block, ten milliseconds for a jump, and about a minute for all blocks of an epoch, which one core takes 35 hours to
decode. In 64 lanes a block is one shard; a process that follows all of them holds 64, 5 MB, and one of 64 processes
plans its epoch in four seconds. What grows with the samples is the index of the data set, which stays on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from shards.base.errors import UserError
from shards.loading.layout import Layout

TARGET_BLOCK_UNITS = 65_536
"""How many units a block should hold: two hundred batches of 256 before units of the same shards can meet again."""
_MAX_DEFAULT_NODES = 64
_MIN_LANE_SHARDS = 8
"""Neighboring lanes read the shard at their border twice: at most an eighth of all shards."""


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


def default_canonical_nodes(units_per_shard: np.ndarray, units_per_batch: int) -> int:
    """The number of lanes of an order, from the data set and the batch alone, so that any machines have the same.

    The largest power of two up to ``_MAX_DEFAULT_NODES`` that divides the batch and leaves each lane at least
    ``_MIN_LANE_SHARDS`` of the largest shards. It is 1 for a split that fits into one block, which is shuffled as one.

    Args:
        units_per_shard: int64 (shards,).
        units_per_batch: Units of a global batch.
    """
    num_units = int(units_per_shard.sum())
    if num_units <= TARGET_BLOCK_UNITS:
        return 1
    most = min(_MAX_DEFAULT_NODES, num_units // (_MIN_LANE_SHARDS * int(units_per_shard.max())))
    nodes = 1
    while 2 * nodes <= most and units_per_batch % (2 * nodes) == 0:
        nodes *= 2
    return nodes


class EpochOrder:
    """The order of the units of every epoch.

    Holds caches and no state: calls in any sequence, from any thread, give the same answers.

    Attributes:
        num_units: Units of the split.
        num_lanes: Lanes of the line.
        lane_starts: int64 (lanes + 1,), the position at which each lane starts, and the line's end.
        block_shards: Most shards of a block.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int] | np.ndarray,
        seed: int,
        block_shards: int | None = None,
        num_lanes: int = 1,
        stream: tuple[int, ...] = (),
    ) -> None:
        """Takes the layout of a split.

        Args:
            shard_sizes: Units of each shard, in index order; units are numbered through, shard after shard.
            seed: A whole number from 0; another seed is another order.
            block_shards: Most shards of a block; when None, ``default_block_shards`` are divided among the lanes.
            num_lanes: Into how many lanes the line is cut. The order depends on it.
            stream: Distinguishes the orders of one seed.

        Raises:
            UserError: A negative seed, blocks of no shard, or more lanes than units.
        """
        if seed < 0:
            raise UserError(f"seed must be a whole number from 0, not {seed}.")
        if block_shards is not None and block_shards < 1:
            raise UserError(f"block_shards must be at least 1, not {block_shards}.")
        self._seed, self._stream = seed, stream
        self._shard_sizes = np.asarray(shard_sizes, np.int64)
        self._shard_starts = np.cumsum(self._shard_sizes) - self._shard_sizes
        self.num_units = int(self._shard_sizes.sum())
        if not 1 <= num_lanes <= max(1, self.num_units):
            raise UserError(f"canonical_nodes must be from 1 to {self.num_units}, not {num_lanes}.")
        self.num_lanes = num_lanes
        self.lane_starts = np.arange(num_lanes + 1) * self.num_units // num_lanes
        self.block_shards = block_shards or max(1, default_block_shards(self._shard_sizes) // num_lanes)
        # Entries are replaced whole, for thread safety. Two epochs, since a lane is prefetched into the next one.
        self._layouts: tuple[tuple[int, Layout], ...] = ()
        self._lane_blocks = [(-1, -1, np.empty(0, np.int64))] * num_lanes

    @property
    def num_shards(self) -> int:
        """Shards of the split."""
        return len(self._shard_sizes)

    def rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """The units at the positions ``[start, stop)`` of an epoch's line.

        Args:
            epoch: Number of the epoch, from 0.
            start: First position, from 0.
            stop: End of the range, at most ``num_units``.

        Returns:
            int64 (stop - start,), numbers of units; for samples these are rows of the split.
        """
        assert 0 <= start <= stop <= self.num_units, (start, stop, self.num_units)
        layout = self.layout(epoch)
        first, last = layout.blocks_at(np.array([start, stop - 1]))
        parts = [np.empty(0, np.int64)]
        for block in range(first, last + 1) if start < stop else ():
            block_start = layout.block_starts[block]
            parts.append(self._block_rows(epoch, block, layout)[max(0, start - block_start) : stop - block_start])
        return np.concatenate(parts)

    def shards_from(self, epoch: int, blocks: Iterable[int]) -> np.ndarray:
        """What readers of some blocks need now and next: int64 numbers of shards, first all that are needed now.

        After the last block of a lane comes the lane's first one of the next epoch.
        """
        layout, now, following = self.layout(epoch), [], []
        for block in blocks:
            now.append(layout.shards(block))
            lane = layout.lane_of(block)
            if block + 1 < layout.lane_blocks[lane + 1]:
                following.append(layout.shards(block + 1))
            else:
                later = self.layout(epoch + 1)
                following.append(later.shards(later.lane_blocks[lane]))
        return np.concatenate([*now, *following])

    def layout(self, epoch: int) -> Layout:
        """The lanes and blocks of an epoch."""
        layouts = self._layouts
        for cached_epoch, layout in layouts:
            if cached_epoch == epoch:
                return layout
        shard_order = shuffled(len(self._shard_sizes), self._seed, *self._stream, epoch, 0)
        layout = Layout(shard_order, self._shard_sizes, self.lane_starts, self.block_shards)
        self._layouts = (*layouts[-1:], (epoch, layout))
        return layout

    def _block_rows(self, epoch: int, block: int, layout: Layout) -> np.ndarray:
        """All units of a block, in the epoch's order."""
        lane = layout.lane_of(block)
        cached_epoch, cached_block, rows = self._lane_blocks[lane]
        if (cached_epoch, cached_block) != (epoch, block):
            shards = layout.shards(block)
            firsts, sizes = layout.taken(block, self._shard_sizes)
            # With the block's shards end to end, a unit's number is its place plus the shift of its shard.
            shift = self._shard_starts[shards] + firsts - (np.cumsum(sizes) - sizes)
            rows = shuffled(int(sizes.sum()), self._seed, *self._stream, epoch, 1 + block)
            # The largest blocks are single shards, where gathering shifts would take half as long as the shuffle.
            rows += shift if len(shards) == 1 else np.repeat(shift, sizes)[rows]
            self._lane_blocks[lane] = (epoch, block, rows)
        return rows
