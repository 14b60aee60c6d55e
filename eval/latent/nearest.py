"""The training images nearest to some images: did a model make new faces or recall old ones?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from eval.features.spaces import load_efflite0
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

Describe = Callable[[np.ndarray], np.ndarray]
"""uint8 images (N, H, W, C) to V views of each, float32 (V, N, d); the nearest view counts."""


def pixel_views(images: np.ndarray) -> np.ndarray:
    """Pixels and mirrored pixels, scaled so that distances are root mean squared errors on [-1, 1]."""
    both = np.stack([images, images[:, :, ::-1]]).astype(np.float32) / 127.5 - 1
    flat = both.reshape(2, len(images), -1)
    return flat / np.sqrt(flat.shape[-1])


def feature_views(device: torch.device) -> Describe:
    """EfficientNet-Lite0's features; they hardly change when a face is mirrored.

    Raises:
        UserError: Its weights are not installed.
    """
    space = load_efflite0(device)
    return lambda images: space(torch.from_numpy(images))[None]


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


def nearest_rows(
    images: np.ndarray, dataset: Dataset, split: str, num_nearest: int, describe: Describe, batch_size: int = 64
) -> Nearest:
    """Finds the nearest images of a split, with one batch of it in memory at a time.

    Args:
        images: uint8 (Q, H, W, C).
        dataset: Images of the same size.
        split: The split to search.
        num_nearest: Images to find for each query.
        describe: Turns images into points; their Euclidean distance counts.
        batch_size: Images of the split at a time.

    Returns:
        The nearest rows of the split.
    """
    # One view of each query is enough: the split's images are mirrored instead.
    queries = np.concatenate([describe(images[first : first + 64])[0] for first in range(0, len(images), 64)])
    nearest = Nearest.empty(len(images), num_nearest)
    with ProgressLine(f"faces of {split}", dataset.num_samples(split)) as progress:
        for batch in evaluation_batches(dataset, split, batch_size, fields=()):
            views = [distances(queries, view) for view in describe(batch.images.numpy())]
            nearest.update(batch.rows.numpy(), np.min(views, axis=0))
            progress.update(len(batch.rows))
    return nearest


def distances(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Euclidean distances (Q, n) of points (Q, d) and (n, d); float64, since they are differences of large sums."""
    left, right = queries.astype(np.float64), points.astype(np.float64)
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(squared.clip(min=0))
