"""Density and coverage of two sets of features (Naeem et al. 2020, arXiv 2002.09797).

Precision and recall depend on outliers: the ball of one unusual image can contain nearly everything. Here only real
features have balls, each reaching to its k-th nearest real neighbor. Density is the mean number of balls that contain a
generated feature, divided by k: about 1 for real images, more where images crowd the typical faces. Coverage is the
share of balls that contain a generated feature. Only values at the same numbers of images can be compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eval.metrics.precision_recall import radii, squared_distances

NUM_DENSITY_NEIGHBORS = 5
"""k of the paper."""


class DensityCoverage(NamedTuple):
    """Density is at least 0 and unbounded; coverage a share in [0, 1]."""

    density: float
    coverage: float


def density_coverage(
    generated: np.ndarray, real: np.ndarray, num_neighbors: int = NUM_DENSITY_NEIGHBORS
) -> DensityCoverage:
    """Density and coverage of features (N1, d) against features (N2, d).

    Args:
        generated: Features of generated images.
        real: Features of real images.
        num_neighbors: k; the feature itself does not count.

    Raises:
        ValueError: ``num_neighbors`` real features or fewer, or no generated one.
    """
    if len(real) <= num_neighbors or not len(generated):
        raise ValueError(f"density and coverage need a generated image and at least {num_neighbors + 1} real ones")
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    limits, num_inside, is_covered = radii(real, num_neighbors), 0, np.zeros(len(real), bool)
    for distances in squared_distances(generated, real):
        is_inside = distances < limits
        num_inside += int(is_inside.sum())
        is_covered |= is_inside.any(axis=0)
    return DensityCoverage(num_inside / (num_neighbors * len(generated)), float(is_covered.mean()))
