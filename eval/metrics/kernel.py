"""Kernel distance between two sets of features (Bińkowski et al. 2018; "KID" on Inception's).

The unbiased estimate of the squared maximum mean discrepancy with the polynomial kernel ``(x.y / d + 1)^3``, averaged
over random subsets. Subsets, kernel and estimator are those of torch-fidelity, down to the order of its random numbers,
so that both give the same value for the same features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_SUBSETS = 100
MAX_SUBSET_SIZE = 1000
SEED = 2020
"""torch-fidelity's default seed of the subsets."""
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over the subsets; the mean can be slightly below 0, as the estimate is unbiased."""

    mean: float
    std: float
    subset_size: int


def kernel_distance(
    first: np.ndarray,
    second: np.ndarray,
    num_subsets: int = NUM_SUBSETS,
    max_subset_size: int = MAX_SUBSET_SIZE,
    seed: int = SEED,
) -> KernelDistance:
    """Kernel distance of features (N1, d) and (N2, d).

    Args:
        first: Features of one set.
        second: Features of the other set.
        num_subsets: Number of random subsets, each drawn without replacement.
        max_subset_size: Size of a subset; all features where there are fewer.
        seed: Seed of the subsets.

    Raises:
        ValueError: Fewer than two features in a set.
    """
    size = min(max_subset_size, len(first), len(second))
    if size < 2:
        raise ValueError("a kernel distance needs at least 2 images on either side")
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) == len(second) == size:
        num_subsets = 1  # Every subset would be the whole set.
    random = np.random.RandomState(seed)
    in_first, in_second = np.zeros((num_subsets, len(first))), np.zeros((num_subsets, len(second)))
    for subset in range(num_subsets):
        in_first[subset, random.choice(len(first), size, replace=False)] = 1
        in_second[subset, random.choice(len(second), size, replace=False)] = 1

    within_first = _subset_sums(first, first, in_first, in_first) - in_first @ _self_kernel(first)
    within_second = _subset_sums(second, second, in_second, in_second) - in_second @ _self_kernel(second)
    between = _subset_sums(first, second, in_first, in_second)
    mmd2 = (within_first + within_second) / (size * (size - 1)) - 2 * between / size**2
    return KernelDistance(float(mmd2.mean()), float(mmd2.std()), size)


def _polynomial(products: np.ndarray, dim: int) -> np.ndarray:
    return (products / dim + 1) ** 3


def _self_kernel(features: np.ndarray) -> np.ndarray:
    """(N,) the kernel of every feature with itself."""
    return _polynomial((features**2).sum(axis=1), features.shape[1])


def _subset_sums(rows: np.ndarray, columns: np.ndarray, in_rows: np.ndarray, in_columns: np.ndarray) -> np.ndarray:
    """(num_subsets,) sum of the kernel over all pairs of each subset.

    Every pair's kernel is computed once, in blocks of rows, and counted in all the subsets that hold it.
    """
    sums = np.zeros(len(in_rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        kernel = _polynomial(rows[block] @ columns.T, rows.shape[1])
        sums += (in_rows[:, block] * (kernel @ in_columns.T).T).sum(axis=1)
    return sums
