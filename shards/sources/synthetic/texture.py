"""Waves and strands for hair and beards: band-limited, so that small pictures do not alias."""

from __future__ import annotations

import numpy as np

from shards.sources.synthetic.canvas import Array

_NOISE = np.random.Generator(np.random.PCG64(7)).random(64).astype(np.float32) * 2 - 1
_STEP = np.roll(_NOISE, -1) - _NOISE


def wave(t: Array) -> Array:
    """A smooth wave between -1 and 1 with period 1, from a polynomial."""
    fraction = t - np.floor(t)
    fraction = fraction * (1 - fraction)
    return fraction * fraction * 32 - 1


def streaks(t: Array, cells_per_pixel: float) -> Array:
    """Noise in [-1, 1] along ``t`` with one value a unit, and finer strands where the pixels can show them."""
    strands = noise(t) * (0.7 * _fade(cells_per_pixel))
    fine = 0.5 * _fade(cells_per_pixel * 3.1)
    if fine > 0:
        strands += noise(t * 3.1 + 17) * fine
    return strands


def noise(t: Array) -> Array:
    """Smooth noise in [-1, 1] with a value a unit and a period of 64."""
    whole = np.floor(t)
    fraction = t - whole
    index = whole.astype(np.int32) & 63
    fraction *= fraction * (3 - 2 * fraction)
    fraction *= _STEP[index]
    fraction += _NOISE[index]
    return fraction


def _fade(cells_per_pixel: float) -> float:
    return min(max(1.6 - 1.2 * cells_per_pixel, 0.0), 1.0)
