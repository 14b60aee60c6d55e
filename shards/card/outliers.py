"""Images much darker, brighter or less sharp than the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.card.pixel_measures import Measures

MIN_SCORE = 3.5
"""Robust z-score (Iglewicz and Hoaglin 1993) beyond which an image is an outlier."""
_MAD_TO_STD = 0.6745


@dataclass(frozen=True)
class Outliers:
    """One kind of outlier.

    Attributes:
        title: Such as ``Darkest``.
        positions: int64, all images in ``Measures``, the most extreme first.
        num: Number of outliers: the first ones.
        values: float32, brightness or sharpness, in the order of ``positions``.
    """

    title: str
    positions: np.ndarray
    num: int
    values: np.ndarray


def find_outliers(measures: Measures) -> list[Outliers]:
    """The darkest, the brightest and the least sharp images; sharpness is compared on a logarithmic scale."""
    brightness, sharpness = measures.brightness, measures.sharpness
    # A plain image has a sharpness of 0.
    log_sharpness = np.log(np.maximum(sharpness, 1e-3))
    return [
        _lowest("Darkest", brightness, brightness),
        _lowest("Brightest", -brightness, brightness),
        _lowest("Least sharp", log_sharpness, sharpness),
    ]


def robust_scores(values: np.ndarray) -> np.ndarray:
    """Distances from the median in units of a robust standard deviation."""
    distances = values.astype(np.float64) - np.median(values)
    spread = np.median(np.abs(distances))
    return _MAD_TO_STD * distances / spread if spread > 0 else np.sign(distances) * np.where(distances, np.inf, 0)


def _lowest(title: str, ranked: np.ndarray, values: np.ndarray) -> Outliers:
    order = np.argsort(ranked, kind="stable")
    scores = robust_scores(ranked)
    return Outliers(title, order, int((scores < -MIN_SCORE).sum()), values[order])
