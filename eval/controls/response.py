"""Does the degree of generated faces, measured by an independent judge, follow the one asked for?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Judge = Callable[[torch.Tensor], np.ndarray]
"""Measures uint8 images N x H x W x C: one value each, float64 (N,)."""

ASKED = tuple(np.linspace(-2, 2, 41).round(2))
"""Degrees asked for: the trained range and half as much again on either side, to see where it saturates."""
SATURATED = 0.25
"""A curve has saturated where it rises less than this share of its slope over [-1, 1]."""


@dataclass(frozen=True)
class Control:
    """How well the measured degree follows the one asked for.

    Attributes:
        slope: Slope of the least-squares line through all samples with an asked degree in [-1, 1].
        correlation: Pearson's correlation over the same samples.
        low: Below this asked degree the measured one stays flat; the lowest asked degree if it never does.
        high: Above this asked degree it stays flat.
    """

    slope: float
    correlation: float
    low: float
    high: float


@dataclass(frozen=True)
class Telling:
    """How well a judge distinguishes two degrees of the same latents.

    Attributes:
        paired: Share of latents whose face at the higher degree gets the higher judgment.
        accuracy: Share of all faces on the right side of the threshold.
    """

    paired: float
    accuracy: float


def control(asked: np.ndarray, measured: np.ndarray) -> Control:
    """Measures slope and correlation over [-1, 1], and the range in which asking has an effect.

    Args:
        asked: Rising degrees, (degrees,); at least two in [-1, 1].
        measured: Judgments, degrees x samples.
    """
    inside = np.abs(asked) <= 1
    x, y = np.repeat(asked[inside], measured.shape[1]), measured[inside].ravel()
    slope = float(np.polyfit(x, y, 1)[0])
    correlation = float(np.corrcoef(x, y)[0, 1]) if y.std() > 0 else 0.0
    rises = np.gradient(measured.mean(axis=1), asked) >= SATURATED * slope
    middle = int(np.abs(asked).argmin())
    if slope <= 0 or not rises[middle]:
        return Control(slope, correlation, float(asked[middle]), float(asked[middle]))
    flat = np.flatnonzero(~rises)
    first = flat[flat < middle].max(initial=-1) + 1
    last = flat[flat > middle].min(initial=len(asked)) - 1
    return Control(slope, correlation, float(asked[first]), float(asked[last]))


def telling(low: np.ndarray, high: np.ndarray, threshold: float) -> Telling:
    """Compares judgments of the same latents at a lower and at a higher degree, each (samples,)."""
    accuracy = 0.5 * float((low < threshold).mean() + (high >= threshold).mean())
    return Telling(float((high > low).mean()), accuracy)
