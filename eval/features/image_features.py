"""Features of single images: of any batches, and of a whole split in blocks that the user's cache keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from eval.base.cached import cached_array
from eval.features.spaces import FeatureSpace
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.reader import Reader

BLOCK = 512
"""Images whose features are one file; an interrupted extraction loses at most these."""
_BATCH_SIZE = 64
_FORMAT_VERSION = 1


def image_features(space: FeatureSpace, batches: Iterable[np.ndarray], num: int, what: str) -> np.ndarray:
    """Features float32 (num, d) of batches of uint8 images (n, H, W, C); ``what`` names the progress bar."""
    parts = []
    with ProgressLine(f"features of {what}", num) as progress:
        for images in batches:
            parts.append(space(torch.from_numpy(np.ascontiguousarray(images))))
            progress.update(len(images))
    return np.concatenate(parts)


def feature_blocks(space: FeatureSpace, dataset: Dataset, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features of all images of a split, one block in memory at a time; each block is extracted once and cached.

    Args:
        space: The feature network.
        dataset: Holds the images.
        split: Name of the split.

    Returns:
        For each block its rows, int64 (n,), and its features, float32 (n, d).
    """
    num_images = dataset.num_samples(split)
    reader = Reader(dataset, split)
    with ProgressLine(f"features of {split}", num_images) as progress:
        for first in range(0, num_images, BLOCK):
            rows = np.arange(first, min(first + BLOCK, num_images))
            path = _block_path(space, dataset, split, first, len(rows))
            extract = partial(_extract, space, dataset, reader, rows)
            yield rows, cached_array(path, "features", (len(rows), space.dim), extract)
            progress.update(len(rows))


def _block_path(space: FeatureSpace, dataset: Dataset, split: str, first: int, num: int) -> Path:
    identity = f"{_FORMAT_VERSION} {dataset.fingerprint} {split} {first} {num} {space.sha256} {space.preprocessing}"
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.safetensors"
    return cache_directory() / "feature_blocks" / name


def _extract(space: FeatureSpace, dataset: Dataset, reader: Reader, rows: np.ndarray) -> np.ndarray:
    image = dataset.image
    parts = []
    for first in range(0, len(rows), _BATCH_SIZE):
        part = rows[first : first + _BATCH_SIZE]
        images = np.empty((len(part), image.height, image.width, image.channels), np.uint8)
        reader.read_images(part, images)
        parts.append(space(torch.from_numpy(images)))
    return np.concatenate(parts)
