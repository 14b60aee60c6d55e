"""Arrays of rows that may be larger than memory: they lie in files, and are read in blocks.

What follows from them is, bit for bit, what it is in memory.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator

import numpy as np

from shards.base.files import make_folder, writing_to
from shards.base.operating_system import reserve
from shards.base.places import cache_directory

IN_MEMORY_BYTES = 64 * 2**20
"""Larger arrays lie in files."""
_BLOCK_BYTES = 16 * 2**20


def large_array(shape: tuple[int, int]) -> np.ndarray:
    """A float32 array without content: in memory, or in a nameless file of the cache directory that ends with it.

    Raises:
        UserError: The disk has no room for it.
    """
    num_bytes = 4 * shape[0] * shape[1]
    if num_bytes <= IN_MEMORY_BYTES:
        return np.empty(shape, np.float32)
    folder = make_folder(cache_directory() / "spilled")
    with writing_to(folder), tempfile.TemporaryFile(dir=folder) as file:
        # A mapped file that grows on a full disk would end the process.
        reserve(file, num_bytes)
        return np.memmap(file, np.float32, "r+", shape=shape)


def release(rows: np.ndarray) -> None:
    """Takes the pages of an array that lies in a file out of this process; they are read again when they are used."""
    mapped = _mapping(rows)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def row_blocks(rows: np.ndarray, num_rows: int | None = None) -> Iterator[np.ndarray]:
    """Some rows after the other, views of an array (N, d) in memory or copies from one in a file.

    Args:
        rows: The array.
        num_rows: Rows of a block; when None, an array in memory is one block, and one in a file several.
    """
    is_mapped = _mapping(rows) is not None
    if num_rows is None:
        num_rows = max(1, _BLOCK_BYTES // (rows.itemsize * rows.shape[1])) if is_mapped else max(1, len(rows))
    for first in range(0, len(rows), num_rows):
        block = rows[first : first + num_rows]
        yield np.array(block) if is_mapped else block
        release(rows)


def column_means(rows: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    """Means of rows (N, d), or of those where ``chosen`` (N,) is true: float64 (d,)."""
    total, count, first = None, 0, 0
    for block in row_blocks(rows):
        part = block if chosen is None else block[chosen[first : first + len(block)]]
        total, count, first = _added(total, part), count + len(part), first + len(block)
    assert total is not None
    return total / count


def column_variances(rows: np.ndarray) -> np.ndarray:
    """Variances of rows (N, d), divided by N: float64 (d,)."""
    means, total = column_means(rows), None
    for block in row_blocks(rows):
        total = _added(total, (block - means) ** 2)
    assert total is not None
    return total / len(rows)


def _added(total: np.ndarray | None, block: np.ndarray) -> np.ndarray:
    """The sum of a block's rows in float64, added to that of the blocks before it as if they were one array."""
    if total is None:
        return block.sum(axis=0, dtype=np.float64)
    return np.concatenate([total[None], block]).sum(axis=0, dtype=np.float64)


def _mapping(rows: np.ndarray) -> mmap.mmap | None:
    """The file's mapping that an array is a view of; None for an array in memory."""
    base: object = rows
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
