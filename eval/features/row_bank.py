"""Values of the first rows of a split, collected on any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

MAX_FEATURES = 10_000
"""Features kept of each set: at this number a whole kernel matrix costs as much as 100 subsets of 1,000."""


@dataclass
class RowBank:
    """Keeps the values of rows below ``max_rows``, whatever the number of ranks."""

    max_rows: int
    rows: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    def update(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Adds the values (N, d) of rows (N,)."""
        kept = rows < self.max_rows
        if kept.any():
            self.rows.append(rows[kept])
            self.values.append(values[kept].astype(np.float32))

    def merge(self, other: RowBank) -> RowBank:
        """Both banks together."""
        return RowBank(self.max_rows, self.rows + other.rows, self.values + other.values)

    def ordered(self) -> np.ndarray:
        """All kept values in the order of their rows, float32 (n, d)."""
        order = np.argsort(np.concatenate(self.rows), kind="stable")
        return np.concatenate(self.values)[order]
