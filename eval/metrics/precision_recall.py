"""Improved precision and recall of two sets of features (Kynkäänniemi et al. 2019).

A ball around each feature of a set reaches to its k-th nearest neighbor in the set; the union of these balls estimates
the set's support. Precision is the share of generated features in the balls of the real ones (are the images like
faces?), recall the share of real features in the balls of the generated ones (are all kinds of faces among them?). Both
grow with the number of features, so only values at the same numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

NUM_NEIGHBORS = 3
"""k of the paper, and torch-fidelity's default."""
_BLOCK_ROWS = 1024


class PrecisionRecall(NamedTuple):
    """Both shares, in [0, 1]."""

    precision: float
    recall: float


def precision_recall(generated: np.ndarray, real: np.ndarray, num_neighbors: int = NUM_NEIGHBORS) -> PrecisionRecall:
    """Precision and recall of features (N1, d) against features (N2, d).

    Args:
        generated: Features of generated images.
        real: Features of real images.
        num_neighbors: k; the feature itself does not count.

    Raises:
        ValueError: A set of ``num_neighbors`` features or fewer.
    """
    if min(len(generated), len(real)) <= num_neighbors:
        raise ValueError(f"precision and recall need at least {num_neighbors + 1} images on either side")
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    return PrecisionRecall(
        precision=_share_inside(generated, real, num_neighbors), recall=_share_inside(real, generated, num_neighbors)
    )


def _share_inside(points: np.ndarray, centers: np.ndarray, num_neighbors: int) -> float:
    """Share of points in at least one of the balls around the centers."""
    limits = radii(centers, num_neighbors)
    return float(np.concatenate([(block <= limits).any(axis=1) for block in squared_distances(points, centers)]).mean())


def radii(centers: np.ndarray, num_neighbors: int) -> np.ndarray:
    """Squared distance (N,) of each of N centers to its k-th nearest neighbor among the others."""
    # Position 0 is the center itself.
    return np.concatenate(
        [
            np.partition(distances, num_neighbors, axis=1)[:, num_neighbors]
            for distances in squared_distances(centers, centers)
        ]
    )


def squared_distances(rows: np.ndarray, columns: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances (rows, columns) in blocks of rows: the whole matrix need not fit into memory."""
    column_norms = (columns**2).sum(axis=1)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        yield (block**2).sum(axis=1)[:, None] + column_norms - 2 * block @ columns.T
