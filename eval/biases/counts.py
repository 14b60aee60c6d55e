"""Tests of bias: do gender and smile depend on each other, and who changes gender when only the degree moves?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class ChiSquare:
    """A chi-square test.

    Attributes:
        statistic: Value of the test statistic.
        dof: Degrees of freedom.
        p: Probability of a statistic at least as large under the null hypothesis.
    """

    statistic: float
    dof: int
    p: float


@dataclass(frozen=True)
class Turned:
    """Samples that changed gender between two degrees of the same latents.

    Attributes:
        to_male: Samples that turned male.
        to_female: Samples that turned female.
        test: McNemar's test of whether one direction is more frequent; None if nobody changed.
    """

    to_male: int
    to_female: int
    test: ChiSquare | None


def cross_counts(is_male: np.ndarray, is_smiling: np.ndarray) -> np.ndarray:
    """Counts bools (N,) by gender (female, male) and smile (without, with): int64 (2, 2)."""
    return np.bincount(2 * is_male.astype(int) + is_smiling.astype(int), minlength=4).reshape(2, 2)


def independence(table: np.ndarray) -> ChiSquare | None:
    """Pearson's test of independence of rows and columns, without Yates' correction.

    Args:
        table: Counts (rows, columns) of independent observations.

    Returns:
        None if all counts are in one row or column: there is nothing to test.
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return None
    result: Any = stats.chi2_contingency(table, correction=False)
    return ChiSquare(float(result.statistic), int(result.dof), float(result.pvalue))


def turned(before: np.ndarray, after: np.ndarray) -> Turned:
    """Compares the same samples, bool (N,), at two degrees: McNemar (1947), without a continuity correction.

    Not Pearson's test, which assumes independent samples: these are paired, and only those that changed count.
    """
    to_male, to_female = int((~before & after).sum()), int((before & ~after).sum())
    if not to_male + to_female:
        return Turned(0, 0, None)
    statistic = (to_male - to_female) ** 2 / (to_male + to_female)
    return Turned(to_male, to_female, ChiSquare(statistic, 1, float(stats.chi2.sf(statistic, 1))))


def cochran(is_male: np.ndarray) -> ChiSquare | None:
    """Cochran's Q (1950): is the share of males the same at all degrees of the same samples?

    Args:
        is_male: bool (degrees, samples).

    Returns:
        None if no sample changes.
    """
    num_degrees = len(is_male)
    by_degree, by_sample = is_male.sum(axis=1), is_male.sum(axis=0)
    total = int(by_degree.sum())
    spread = num_degrees * total - int((by_sample**2).sum())
    if not spread:
        return None
    statistic = (num_degrees - 1) * (num_degrees * int((by_degree**2).sum()) - total**2) / spread
    return ChiSquare(float(statistic), num_degrees - 1, float(stats.chi2.sf(statistic, num_degrees - 1)))
