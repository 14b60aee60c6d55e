"""Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017; "FID" on Inception's).

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1^1/2 S2 S1^1/2)^1/2)

The last trace is the sum of the square roots of the eigenvalues of a symmetric matrix, so ``eigvalsh`` gives it in real
arithmetic; ``scipy.linalg.sqrtm`` of the non-symmetric S1 S2 can return complex or inaccurate roots.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    difference = mean1 - mean2
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    distance = difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_of_root
    return float(max(distance, 0.0))
