"""The training images nearest to some images: did a model make new faces or recall old ones?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eval.features.image_features import feature_blocks
from eval.features.spaces import FeatureSpace
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

Points = Iterable[tuple[np.ndarray, np.ndarray]]
"""Rows of a split (n,), and V views of each as points, float32 (V, n, d); the nearest view counts."""


def pixel_views(images: np.ndarray) -> np.ndarray:
    """Pixels and mirrored pixels, scaled so that distances are root mean squared errors on [-1, 1]."""
    both = np.stack([images, images[:, :, ::-1]]).astype(np.float32) / 127.5 - 1
    flat = both.reshape(2, len(images), -1)
    return flat / np.sqrt(flat.shape[-1])


def pixel_points(dataset: Dataset, split: str, batch_size: int = 64) -> Points:
    """The pixel views of a split, with one batch of it in memory at a time."""
    with ProgressLine(f"faces of {split}", dataset.num_samples(split)) as progress:
        for batch in evaluation_batches(dataset, split, batch_size, fields=()):
            yield batch.rows.numpy(), pixel_views(batch.images.numpy())
            progress.update(len(batch.rows))


def feature_points(space: FeatureSpace, dataset: Dataset, split: str) -> Points:
    """The features of a split, in one view: they hardly change when a face is mirrored."""
    return ((rows, features[None]) for rows, features in feature_blocks(space, dataset, split))


@dataclass
class Nearest:
    """The k nearest of the images seen so far, for each of Q queries, the nearest first."""

    distances: np.ndarray
    """float64 (Q, k); inf where fewer were seen."""
    rows: np.ndarray
    """int64 (Q, k); -1 where fewer were seen."""

    @classmethod
    def empty(cls, num_queries: int, num_nearest: int) -> Nearest:
        """Nothing seen yet."""
        shape = (num_queries, num_nearest)
        return cls(np.full(shape, np.inf), np.full(shape, -1, np.int64))

    def update(self, rows: np.ndarray, distances: np.ndarray) -> None:
        """Adds rows (n,) at distances (Q, n); ties keep the earlier row in front."""
        all_distances = np.concatenate([self.distances, distances], axis=1)
        all_rows = np.concatenate([self.rows, np.broadcast_to(rows, distances.shape)], axis=1)
        order = np.argsort(all_distances, axis=1, kind="stable")[:, : self.rows.shape[1]]
        self.distances = np.take_along_axis(all_distances, order, axis=1)
        self.rows = np.take_along_axis(all_rows, order, axis=1)


def nearest_rows(queries: np.ndarray, points: Points, num_nearest: int) -> Nearest:
    """Finds the images of a split that are nearest to queries.

    Args:
        queries: float (Q, d). One view of each is enough, since the split's images have all.
        points: The images of the split; Euclidean distance counts.
        num_nearest: Images to find for each query.

    Returns:
        The nearest rows of the split.
    """
    nearest = Nearest.empty(len(queries), num_nearest)
    for rows, views in points:
        nearest.update(rows, np.min([distances(queries, view) for view in views], axis=0))
    return nearest


def distances(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Euclidean distances (Q, n) of points (Q, d) and (n, d); float64, since they are differences of large sums."""
    left, right = queries.astype(np.float64), points.astype(np.float64)
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(squared.clip(min=0))
