"""Samples from the prior as images, any number of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eval.latent.conditions import condition_labels
from eval.latent.encode import BATCH_SIZE
from facegen.pixels import to_uint8

STD_ROWS = tuple(np.arange(1, 9) * 0.25)
"""Standard deviations from 0.25 to 2."""


def sample_batches(
    model: Any, num: int, *, seed: int = 0, std: float = 1.0, degree: float = float("nan"), first: int = 0
) -> Iterator[np.ndarray]:
    """Yields samples ``first`` to ``first + num`` of a seed, a batch at a time.

    Args:
        model: One that samples.
        num: How many.
        seed: Sample i of a seed is always the same face.
        std: Standard deviation of the latents; 1 is the prior.
        degree: Condition of a conditional model; NaN leaves it open.
        first: Number of the first sample.

    Yields:
        uint8 (n, H, W, C).
    """
    for start in range(first, first + num, BATCH_SIZE):
        count = min(BATCH_SIZE, first + num - start)
        labels = condition_labels(model, np.full(count, degree))
        yield to_uint8(model.sample(count, seed=seed, std=std, labels=labels, first=start)).cpu().numpy()


def sample_images(model: Any, num: int, **options: Any) -> np.ndarray:
    """The same as one array, uint8 (num, H, W, C)."""
    return np.concatenate(list(sample_batches(model, num, **options)))
