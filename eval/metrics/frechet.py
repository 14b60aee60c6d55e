"""Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017; "FID" on Inception's).

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1^1/2 S2 S1^1/2)^1/2)

The last trace is the sum of the square roots of the eigenvalues of a symmetric matrix, so ``eigvalsh`` gives it in real
arithmetic; ``scipy.linalg.sqrtm`` of the non-symmetric S1 S2 can return complex or inaccurate roots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass
class FeatureStatistics:
    """Sums of features, enough for their mean and covariance; sums over ranks merge exactly as over batches.

    The sums are float64: float32 loses the small covariances of nearly constant features.
    """

    count: int
    total: np.ndarray
    """(d,) sum of features."""
    outer: np.ndarray
    """(d, d) sum of outer products of features."""

    @classmethod
    def empty(cls, dim: int) -> FeatureStatistics:
        """Statistics without features."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def update(self, features: np.ndarray) -> None:
        """Adds (N, d) features."""
        features = np.asarray(features, np.float64)
        self.count += len(features)
        self.total += features.sum(axis=0)
        self.outer += features.T @ features

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """The statistics of both sets together."""
        return FeatureStatistics(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> np.ndarray:
        """(d,) mean."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """(d, d) unbiased covariance, divided by N - 1, as torch-fidelity and the reference implementation do."""
        return (self.outer - np.outer(self.total, self.mean)) / (self.count - 1)


_BLOCK_ROWS = 1024


class FrechetDistance(NamedTuple):
    """A squared distance, at least 0, and its standard error over resampled images."""

    value: float
    error: float


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared Fréchet distance of two sets of features, at least 0.

    Raises:
        ValueError: Fewer than two images in a set, which has no covariance.
    """
    if min(first.count, second.count) < 2:
        raise ValueError("a Fréchet distance needs at least 2 images on either side")
    return gaussian_frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def gaussian_frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians with means (d,) and covariances (d, d), clamped at 0."""
    root, _ = _roots(cov1)
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    difference = mean1 - mean2
    return _distance(difference, cov1, cov2, trace_of_root)


def frechet_with_error(
    first: FeatureStatistics,
    second: FeatureStatistics,
    features: tuple[np.ndarray, np.ndarray],
    is_paired: bool = False,
) -> FrechetDistance:
    """The distance with the standard error that resampling the images would give, in first order.

    A resample holds fewer different images, so its distance is larger: the percentiles of a bootstrap do not contain
    the distance of few images at all. Its deviation is close to that of the distance's first-order change, a sum over
    images, which needs no resampling (the infinitesimal jackknife, Efron 1982).

    Args:
        first: Of one set of images.
        second: Of the other set.
        features: Of images of either set (N1, d) and (N2, d): all, or some to estimate the variance from.
        is_paired: Whether image i of both sets belong together, such as a face and its reconstruction, and are
            resampled together.

    Raises:
        ValueError: Fewer than two images in a set.
    """
    if min(first.count, second.count) < 2:
        raise ValueError("a Fréchet distance needs at least 2 images on either side")
    cov1, cov2 = first.covariance, second.covariance
    root, inverse = _roots(cov1)
    values, vectors = np.linalg.eigh(root @ cov2 @ root)
    kept = values > _smallest(values)
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    difference = first.mean - second.mean
    change1 = _changes(features[0], first.mean, 2 * difference, inverse @ vectors, roots)
    change2 = _changes(features[1], second.mean, -2 * difference, root @ vectors, 1 / roots)
    variance = (
        (change1 + change2).var() / first.count
        if is_paired
        else change1.var() / first.count + change2.var() / second.count
    )
    value = _distance(difference, cov1, cov2, np.sqrt(values.clip(0)).sum())
    return FrechetDistance(value, float(np.sqrt(variance)))


def _changes(
    features: np.ndarray, mean: np.ndarray, slope: np.ndarray, directions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(N,) derivative of the distance by the share of each image in its set, up to a constant; in blocks of images.

    Args:
        features: Of the images, (N, d).
        mean: Of the set, (d,).
        slope: Derivative by the mean, (d,).
        directions: Columns (d, k) that, with their weights, make up the transport map to the other set.
        weights: Of the directions, (k,).
    """
    changes = np.empty(len(features))
    for start in range(0, len(features), _BLOCK_ROWS):
        around = features[start : start + _BLOCK_ROWS] - mean
        changes[start : start + _BLOCK_ROWS] = (
            around @ slope + (around**2).sum(axis=1) - (around @ directions) ** 2 @ weights
        )
    return changes


def _distance(difference: np.ndarray, cov1: np.ndarray, cov2: np.ndarray, trace_of_root: float) -> float:
    return float(max(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_of_root, 0.0))


def _roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square root of a covariance (d, d), and the root's inverse in the space that the features span."""
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(values.clip(0))
    kept = values > _smallest(values)
    return (vectors * roots) @ vectors.T, (vectors[:, kept] / roots[kept]) @ vectors[:, kept].T


def _smallest(values: np.ndarray) -> float:
    """Below this, eigenvalues (d,) in rising order are rounding errors of 0."""
    return max(values[-1], 0.0) * len(values) * 1e-12
