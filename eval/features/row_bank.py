"""Values of the first rows of a split, collected on any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eval.base.large_arrays import large_array, release, row_blocks

MAX_FEATURES = 10_000
"""Features kept of each set: at this number a whole kernel matrix costs as much as 100 subsets of 1,000."""


@dataclass
class RowBank:
    """Keeps the values of rows below ``max_rows``, whatever the number of ranks; many of them in a file."""

    max_rows: int
    _values: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(capacity, d): the place of each row is its number."""
    _is_there: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    """(capacity,)."""

    @classmethod
    def of(cls, values: np.ndarray) -> RowBank:
        """A bank of the values (N, d) of rows 0 to N - 1."""
        bank = cls(MAX_FEATURES)
        bank.update(np.arange(len(values)), values)
        return bank

    def update(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Adds the values (N, d) of rows (N,), each of which is added once."""
        kept = rows < self.max_rows
        if kept.any():
            self._reserve(int(rows[kept].max()) + 1, values.shape[1])
            self._values[rows[kept]] = values[kept]
            self._is_there[rows[kept]] = True
            release(self._values)

    def merge(self, other: RowBank) -> RowBank:
        """Both banks together."""
        both = RowBank(self.max_rows)
        for bank in (self, other):
            first = 0
            for block in row_blocks(bank._values):
                places = np.flatnonzero(bank._is_there[first : first + len(block)])
                both.update(first + places, block[places])
                first += len(block)
        return both

    def ordered(self) -> np.ndarray:
        """All kept values in the order of their rows, float32 (n, d); not to be written to."""
        num_rows = int(self._is_there.sum())
        is_whole = self._is_there[:num_rows].all()
        return self._values[:num_rows] if is_whole else self._values[self._is_there]

    def _reserve(self, num_rows: int, size: int) -> None:
        """Makes room for so many rows, and doubles it as long as rows come."""
        before = len(self._values)
        if num_rows <= before:
            return
        capacity = min(self.max_rows, max(num_rows, 2 * before))
        values, is_there = large_array((capacity, size)), np.zeros(capacity, bool)
        first = 0
        for block in row_blocks(self._values):
            values[first : first + len(block)] = block
            first += len(block)
            release(values)
        is_there[:before] = self._is_there
        self._values, self._is_there = values, is_there

    def __getstate__(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Only what is there, for another rank."""
        rows = np.flatnonzero(self._is_there)
        return self.max_rows, rows, np.array(self._values[rows])

    def __setstate__(self, state: tuple[int, np.ndarray, np.ndarray]) -> None:
        """Reverses ``__getstate__``."""
        max_rows, rows, values = state
        self.__init__(max_rows)  # type: ignore[misc]
        self.update(rows, values)
