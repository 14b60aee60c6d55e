"""Encodes whole splits, with a cache, and decodes any number of latents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.base.cached import cached_rows
from eval.latent.conditions import condition_labels, split_degrees
from eval.latent.origin import Origin
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

BATCH_SIZE = 64
_FORMAT_VERSION = 1


def encode_split(
    model: Any, dataset: Dataset, split: str, batch_size: int = BATCH_SIZE, limit: int | None = None
) -> np.ndarray:
    """The posterior's mean of every image of a split, in its order.

    Cached in the user's cache directory, by weights and data.

    Args:
        model: As ``facegen.model.load`` returns it.
        dataset: Images of the model's shape; the encoder gets their condition where they have it.
        split: Name of the split.
        batch_size: Images in memory at a time.
        limit: Take only the first so many images.

    Returns:
        float32 (N, L); many of them in a file, see ``cached_rows``.

    Raises:
        UserError: The model cannot encode, or the split is empty.
    """
    num_images = min(limit or dataset.num_samples(split), dataset.num_samples(split))
    path = cache_path(Origin.of(model, dataset, split), num_images)
    shape = (num_images, model.latent_size)

    def encode() -> Iterator[np.ndarray]:
        degrees = split_degrees(model, dataset, split)
        batches = evaluation_batches(dataset, split, batch_size, limit=limit, fields=())
        with ProgressLine(f"latents of {split}", num_images) as progress:
            for batch in batches:
                rows = batch.rows.numpy()
                yield model.encode(batch.images.numpy(), condition_labels(model, degrees[rows]))
                progress.update(len(rows))

    return cached_rows(path, shape, encode)


def cache_path(origin: Origin, num_images: int) -> Path:
    """The cache file for the latents of an origin's first images."""
    key = f"{_FORMAT_VERSION} {origin.snapshot} {origin.fingerprint} {origin.split} {num_images}"
    return cache_directory() / "latents" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"


def decode_images(model: Any, latents: np.ndarray, degrees: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Images of any number of latents.

    Args:
        model: One that decodes.
        latents: float (..., L).
        degrees: float (...); only conditional models use them.
        batch_size: Latents at a time.

    Returns:
        uint8 (..., H, W, C).
    """
    flat = np.asarray(latents, np.float32).reshape(-1, latents.shape[-1])
    flat_degrees = np.broadcast_to(degrees, latents.shape[:-1]).reshape(-1)
    parts = []
    with ProgressLine("decoding", len(flat)) as progress:
        for first in range(0, len(flat), batch_size):
            part = slice(first, first + batch_size)
            parts.append(model.decode(flat[part], condition_labels(model, flat_degrees[part])))
            progress.update(len(parts[-1]))
    images = np.concatenate(parts)
    return images.reshape(*latents.shape[:-1], *images.shape[1:])
