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
NUM_RESAMPLES = 100
"""Of a bootstrap."""
SEED = 2020
"""torch-fidelity's default seed of the subsets."""
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance.

    Attributes:
        mean: Over the subsets; it can be slightly below 0, as the estimate is unbiased.
        std: Standard deviation over the subsets.
        subset_size: Features in a subset.
        error: Standard deviation of the distance of all features over resampled sets (bootstrap). Pairs of a feature
            with itself, of which a resample has more, are left out.
    """

    mean: float
    std: float
    subset_size: int
    error: float


def kernel_distance(
    first: np.ndarray,
    second: np.ndarray,
    num_subsets: int = NUM_SUBSETS,
    max_subset_size: int = MAX_SUBSET_SIZE,
    seed: int = SEED,
    is_paired: bool = False,
) -> KernelDistance:
    """Kernel distance of features (N1, d) and (N2, d).

    Args:
        first: Features of one set.
        second: Features of the other set.
        num_subsets: Number of random subsets, each drawn without replacement.
        max_subset_size: Size of a subset; all features where there are fewer.
        seed: Seed of the subsets, and of the resampled sets.
        is_paired: Whether feature i of both sets belong together and are resampled together.

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
    resample = np.random.default_rng(seed)
    again_first = _resampled(len(first), resample)
    again_second = again_first if is_paired else _resampled(len(second), resample)
    # One pass over the kernel serves the subsets and the resampled sets.
    in_first, in_second = np.concatenate([in_first, again_first]), np.concatenate([in_second, again_second])
    left_out = np.concatenate([np.zeros((num_subsets, len(first))), again_first**2]) if is_paired else None
    mmd2 = (
        _means(first, first, in_first, in_first, in_first**2)
        + _means(second, second, in_second, in_second, in_second**2)
        - 2 * _means(first, second, in_first, in_second, left_out)
    )
    subsets, resampled = mmd2[:num_subsets], mmd2[num_subsets:]
    return KernelDistance(float(subsets.mean()), float(subsets.std()), size, float(resampled.std(ddof=1)))


def _resampled(num: int, random: np.random.Generator) -> np.ndarray:
    """How often each of ``num`` features is in sets drawn with replacement, (NUM_RESAMPLES, num)."""
    return random.multinomial(num, np.full(num, 1 / num), NUM_RESAMPLES).astype(np.float64)


def _means(
    rows: np.ndarray, columns: np.ndarray, in_rows: np.ndarray, in_columns: np.ndarray, left_out: np.ndarray | None
) -> np.ndarray:
    """(num_sets,) mean of the kernel over all pairs of each set.

    Args:
        rows: Features (N1, d).
        columns: Features (N2, d).
        in_rows: How often each of them is in the set, (num_sets, N1).
        in_columns: Likewise, (num_sets, N2).
        left_out: How often the pair of row i and column i does not count, (num_sets, N); None for never.
    """
    sums, nums = _set_sums(rows, columns, in_rows, in_columns), in_rows.sum(1) * in_columns.sum(1)
    if left_out is not None:
        sums -= left_out @ _polynomial((rows * columns).sum(axis=1), rows.shape[1])
        nums -= left_out.sum(1)
    # A set that drew one feature only has no pairs.
    return sums / np.maximum(nums, 1)


def _polynomial(products: np.ndarray, dim: int) -> np.ndarray:
    return (products / dim + 1) ** 3


def _set_sums(rows: np.ndarray, columns: np.ndarray, in_rows: np.ndarray, in_columns: np.ndarray) -> np.ndarray:
    """(num_sets,) sum of the kernel over all pairs of each set, given how often features are in it, (num_sets, N).

    Every pair's kernel is computed once, in blocks of rows, and counted in all the sets that hold it.
    """
    sums = np.zeros(len(in_rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        kernel = _polynomial(rows[block] @ columns.T, rows.shape[1])
        sums += (in_rows[:, block] * (kernel @ in_columns.T).T).sum(axis=1)
    return sums
