"""Arrays that are computed once and kept in the user's cache; large ones stay in its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from safetensors import SafetensorError
from safetensors.numpy import load_file

from eval.base.large_arrays import IN_MEMORY_BYTES
from shards.base.files import make_folder, replacing, save_tensors, writing_to


def cached_array(path: Path, name: str, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that a file holds under a name; computed and saved if it is absent, damaged or of another shape."""
    try:
        kept = load_file(path)[name]
        if kept.shape == shape:
            return kept
    except (OSError, SafetensorError, KeyError):
        pass
    computed = compute()
    save_tensors(path, {name: computed})
    return computed


def cached_rows(path: Path, shape: tuple[int, int], compute: Callable[[], Iterator[np.ndarray]]) -> np.ndarray:
    """The rows float32 (N, d) of a cache's .npy file, computed and saved if it is absent, damaged or of another shape.

    Args:
        path: The file.
        shape: N and d.
        compute: Starts to compute them: blocks (n, d), in order, of which one is in memory at a time.

    Returns:
        An array in memory, or above ``IN_MEMORY_BYTES`` the file itself, read-only (see ``eval.base.large_arrays``).

    Raises:
        UserError: Nothing can be written there.
    """
    rows = _load(path, shape)
    if rows is not None:
        return rows
    make_folder(path.parent)
    with writing_to(path), replacing(path, durable=False) as temporary, open(temporary, "wb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in compute():
            file.write(np.ascontiguousarray(block, "<f4").data)
    rows = _load(path, shape)
    assert rows is not None, "as many rows are computed as are asked for"
    return rows


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    is_large = 4 * shape[0] * shape[1] > IN_MEMORY_BYTES
    try:
        rows = np.load(path, mmap_mode="r" if is_large else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float32 else None
