"""Features and latents that lie in files are, bit for bit, those in memory."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.base import cached, large_arrays
from eval.base.cached import cached_rows
from eval.base.large_arrays import column_means, column_variances, large_array, row_blocks
from eval.features.row_bank import RowBank
from eval.latent.attribute_vectors import fit_attributes
from eval.latent.axes import latent_axes
from eval.latent.pca import fit_pca
from shards.base.errors import UserError

NUM_ROWS = 700


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def spilling(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array lies in a file, and blocks have a few rows."""
    for module in (large_arrays, cached):
        monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(large_arrays, "_BLOCK_BYTES", 8_000)


def values_of(size: int) -> np.ndarray:
    random = np.random.default_rng(size)
    return (random.standard_normal((NUM_ROWS, size)) * 10.0 ** random.integers(-3, 4, size)).astype(np.float32)


def in_file(values: np.ndarray, path: Path) -> np.ndarray:
    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, len(values), 64):
            yield values[first : first + 64]

    found = cached_rows(path, values.shape, blocks)  # type: ignore[arg-type]
    assert isinstance(found, np.memmap)
    return found


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("size", [8, 100, 700])
def test_what_follows_from_rows_in_a_file_is_what_follows_in_memory(size: int, tmp_path: Path) -> None:
    values = values_of(size)
    mapped = in_file(values, tmp_path / "rows.npy")
    assert len(list(row_blocks(mapped))) > 1 and len(list(row_blocks(values))) == 1
    np.testing.assert_array_equal(mapped, values)
    np.testing.assert_array_equal(column_means(mapped), values.mean(axis=0, dtype=np.float64))
    np.testing.assert_array_equal(column_variances(mapped), values.var(axis=0, dtype=np.float64))
    chosen = np.arange(NUM_ROWS) % 3 == 1
    np.testing.assert_array_equal(column_means(mapped, chosen), values[chosen].mean(axis=0, dtype=np.float64))
    groups = {"every third": (chosen, ~chosen)}
    np.testing.assert_array_equal(fit_attributes(mapped, groups).vectors, fit_attributes(values, groups).vectors)
    np.testing.assert_array_equal(fit_pca(mapped).components, fit_pca(values).components)
    np.testing.assert_array_equal(latent_axes(mapped, [1, 4], False).units, latent_axes(values, [1, 4], False).units)


def fill(bank: RowBank, values: np.ndarray, rows: np.ndarray) -> RowBank:
    for part in np.array_split(rows, 9):
        bank.update(part, values[part])
    return bank


@pytest.mark.parametrize("max_rows", [500, 10_000])
def test_a_bank_in_a_file_equals_one_in_memory_on_one_and_two_ranks(
    max_rows: int, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    values = values_of(30)
    rows = np.random.default_rng(0).permutation(NUM_ROWS)
    expected = values[:max_rows]
    np.testing.assert_array_equal(fill(RowBank(max_rows), values, rows).ordered(), expected)
    monkeypatch.setattr(large_arrays, "IN_MEMORY_BYTES", 8_000)
    alone = fill(RowBank(max_rows), values, rows)
    np.testing.assert_array_equal(alone.ordered(), expected)
    assert isinstance(alone.ordered(), np.memmap)
    first, second = (fill(RowBank(max_rows), values, part) for part in np.array_split(rows, 2))
    sent = pickle.loads(pickle.dumps(second))
    np.testing.assert_array_equal(first.merge(sent).ordered(), expected)
    np.testing.assert_array_equal(RowBank(max_rows).merge(first).merge(second).ordered(), expected)
    assert list((cache / "spilled").iterdir()) == []  # The files have no names, so none is left behind.


def test_a_bank_with_gaps_gives_what_is_there() -> None:
    values, rows = values_of(5), np.array([3, 1, 600])
    np.testing.assert_array_equal(fill(RowBank(10_000), values, rows).ordered(), values[[1, 3, 600]])
    assert len(RowBank(10).ordered()) == 0


def test_a_full_disk_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UserError, match=f"cannot write {cache / 'spilled'} .No space left on device"):
        large_array((20_000, 1024))
    assert large_array((20, 1024)).shape == (20, 1024)
