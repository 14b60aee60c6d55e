"""Latents of the images of pairs, and a model's own probabilities for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from eval.latent.conditions import UNKNOWN, condition_labels
from eval.verification.pair_set import PairSet, batches
from facegen.degrees import degrees_of
from facegen.randomness import derive_seed
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset


def embed(model: Any, dataset: Dataset, pairs: PairSet, batch_size: int) -> np.ndarray:
    """Encodes each image of the pairs once: the posterior's mean, float32 (N, L)."""
    degrees = _degrees(model, dataset, pairs)
    latents = np.empty((pairs.num_images, model.latent_size), np.float32)
    with ProgressLine(f"latents of {model.name}", pairs.num_images) as progress:
        for part in batches(pairs.num_images, batch_size):
            images = pairs.images(dataset, part)
            latents[part] = model.encode(images, condition_labels(model, degrees[part]))
            progress.update(len(part))
    return latents


def own_probabilities(model: Any, dataset: Dataset, pairs: PairSet, batch_size: int) -> np.ndarray:
    """The probability that each pair is one person, by a model that verifies: float64 (P,)."""
    probabilities = np.empty(len(pairs.pairs))
    with ProgressLine(f"pairs by {model.name}", len(pairs.pairs), "pairs") as progress:
        for part in batches(len(pairs.pairs), batch_size):
            first, second = (pairs.images(dataset, column) for column in pairs.pairs[part].T)
            probabilities[part] = model.verify(first, second)
            progress.update(len(part))
    return probabilities


def random_latents(num: int, size: int, seed: int, draw: int) -> np.ndarray:
    """Standard normal latents that know nothing of the images, float32 (num, size)."""
    return np.random.default_rng(derive_seed(seed, "control", draw)).standard_normal((num, size), np.float32)


def _degrees(model: Any, dataset: Dataset, pairs: PairSet) -> np.ndarray:
    """The condition of each image, NaN without one or where the label is missing: float32 (N,)."""
    if model.condition is None or model.condition not in dataset.fields:
        return np.full(pairs.num_images, UNKNOWN, np.float32)
    return degrees_of(torch.from_numpy(pairs.image_labels(dataset, model.condition))).numpy()
