"""The line of one epoch: its shards end to end, cut into lanes, and these into blocks.

Lanes are equal ranges of units, wherever shards end, so that each gives every batch the same number of units. A shard
at the border of two lanes belongs to both. Blocks end where a shard or a lane ends.
"""

from __future__ import annotations

import numpy as np


class Layout:
    """Where an epoch's lanes and blocks start, and which shards they take their units from.

    Attributes:
        block_starts: int64 (blocks + 1,), the position on the line at which each block starts, and the line's end.
        lane_blocks: int64 (lanes + 1,), the number of the first block of each lane, and the number of blocks.
    """

    def __init__(
        self, shard_order: np.ndarray, shard_sizes: np.ndarray, lane_starts: np.ndarray, block_shards: int
    ) -> None:
        """Cuts the line.

        Args:
            shard_order: int64 (shards,), numbers of the shards, in the order of the epoch.
            shard_sizes: int64 (shards,), units of each shard, by number.
            lane_starts: int64 (lanes + 1,), the position at which each lane starts, and the line's end.
            block_shards: Most shards of a block, from 1.
        """
        self._order = shard_order
        self._ends = np.cumsum(shard_sizes[shard_order])
        # The shards with units of each lane; the outermost lanes own the empty shards at the ends of the line, too.
        firsts = np.searchsorted(self._ends, lane_starts[:-1], side="right")
        stops = np.searchsorted(self._ends, lane_starts[1:], side="left") + 1
        firsts[0], stops[-1] = 0, len(shard_order)
        bounds = [_parts(first, stop, block_shards) for first, stop in zip(firsts, stops, strict=True)]
        self._firsts = np.concatenate([bound[:-1] for bound in bounds])
        self._stops = np.concatenate([bound[1:] for bound in bounds])
        self.lane_blocks = np.cumsum([0, *(len(bound) - 1 for bound in bounds)])
        self.block_starts = np.concatenate([[0], self._ends])[np.append(self._firsts, len(shard_order))]
        self.block_starts[self.lane_blocks] = lane_starts

    @property
    def num_blocks(self) -> int:
        """Blocks of all lanes."""
        return len(self._firsts)

    def blocks_at(self, positions: np.ndarray | int) -> np.ndarray:
        """Numbers of the blocks at some positions of the line."""
        return np.searchsorted(self.block_starts, positions, side="right") - 1

    def lane_of(self, block: int) -> int:
        """The lane to which a block belongs."""
        return int(np.searchsorted(self.lane_blocks, block, side="right")) - 1

    def shards(self, block: int) -> np.ndarray:
        """int64 numbers of the shards from which a block takes units."""
        return self._order[self._firsts[block] : self._stops[block]]

    def taken(self, block: int, shard_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each shard of a block, in their order: the first unit that it takes, from 0, and how many.

        A block at the border of a lane takes only a part of its first or last shard.
        """
        ends = self._ends[self._firsts[block] : self._stops[block]]
        starts = ends - shard_sizes[self.shards(block)]
        begins = np.maximum(starts, self.block_starts[block])
        return begins - starts, np.minimum(ends, self.block_starts[block + 1]) - begins


def _parts(first: int, stop: int, most: int) -> np.ndarray:
    """Bounds of the parts of the range from ``first`` to before ``stop``, as few as can be of at most ``most``.

    They are of nearly equal size: a last block of one left-over shard would end every epoch with batches from that
    shard alone.
    """
    num_parts = -(-(stop - first) // most)
    return first + np.arange(num_parts + 1) * (stop - first) // max(1, num_parts)
