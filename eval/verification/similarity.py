"""Similarities of two latents: higher for the same person."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_TINY = 1e-12


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of the angle between latents, each (pairs, L); float64 (pairs,), 0 if one of them is 0."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.maximum(lengths, _TINY)


def negative_squared_l2(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The negative squared Euclidean distance between latents, each (pairs, L); float64 (pairs,)."""
    return -((first.astype(np.float64) - second) ** 2).sum(axis=1)


SCORES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": cosine,
    "squared L2": negative_squared_l2,
}
