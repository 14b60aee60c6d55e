"""Decoded images of a split, kept in memory as far as they fit.

Faces are small: those of LFW take 130 MB at 64 pixels. From the second epoch on they need neither file nor decoder: a
batch is one copy, which releases the GIL.
"""

from __future__ import annotations

import math

import numpy as np

from shards.base.errors import UserError


class DecodedImages:
    """The first samples of a split, as many as fit; each is here once it was kept. Thread-safe."""

    def __init__(self, num_samples: int, shape: tuple[int, int, int], max_bytes: int) -> None:
        """Reserves memory; the system commits it page by page.

        Args:
            num_samples: Samples of the split.
            shape: (H, W, C) of each.
            max_bytes: Most memory to use.

        Raises:
            UserError: The system refuses that much memory.
        """
        num_fitting = min(num_samples, max_bytes // math.prod(shape))
        try:
            self._images = np.empty((num_fitting, *shape), np.uint8)
        except MemoryError:
            raise UserError(
                f"cannot reserve {num_fitting * math.prod(shape) / 1e9:.1f} GB of memory for decoded images; lower "
                "--loader.decoded_gb."
            ) from None
        self._is_here = np.zeros(num_fitting, bool)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Copies the images that are here.

        Args:
            rows: Rows of the split (N,).
            out: C-contiguous uint8 (N, H, W, C) that takes the images.

        Returns:
            Positions (M,) in ``rows`` of the others; their places in ``out`` stay as they are.
        """
        if not len(self._images):
            return np.arange(len(rows))
        is_here = self._is_here.take(rows, mode="clip") & (rows < len(self._images))
        if is_here.all():
            # Releases the GIL; "clip" writes straight into ``out``.
            np.take(self._images, rows, axis=0, out=out, mode="clip")
        elif is_here.any():
            out[is_here] = self._images[rows[is_here]]
        return np.flatnonzero(~is_here)

    def keep(self, rows: np.ndarray, images: np.ndarray, positions: np.ndarray) -> None:
        """Keeps the images that fit.

        Args:
            rows: Rows of the split (N,).
            images: uint8 (N, H, W, C), theirs.
            positions: Which of them are new (M,).
        """
        fitting = positions[rows[positions] < len(self._images)]
        self._images[rows[fitting]] = images[fitting]
        self._is_here[rows[fitting]] = True

    def holds(self, first: int, end: int) -> bool:
        """Whether all rows from ``first`` to before ``end`` are here."""
        return end <= len(self._images) and bool(self._is_here[first:end].all())
