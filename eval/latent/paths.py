"""Ways from one latent to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Path = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Start (L,), end (L,) and positions (S,) from 0 to 1 to points (S, L)."""
_MIN_SINE = 1e-6


def linear(start: np.ndarray, end: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The straight line."""
    weights = np.asarray(positions, np.float64)[:, None]
    return (1 - weights) * start + weights * end


def spherical(start: np.ndarray, end: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The direction along the great circle (Shoemake 1985), the length changing evenly.

    Between two draws from N(0, I) the line passes nearer to the origin than nearly all draws lie; this does not. Where
    the circle is not defined (a latent of length 0, equal or opposite directions), the line.
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if min(lengths) == 0:
        return linear(start, end, positions)
    directions = start / lengths[0], end / lengths[1]
    angle = np.arccos(np.clip(directions[0] @ directions[1], -1, 1))
    if np.sin(angle) < _MIN_SINE:
        return linear(start, end, positions)
    weights = np.asarray(positions, np.float64)[:, None]
    direction = np.sin((1 - weights) * angle) * directions[0] + np.sin(weights * angle) * directions[1]
    return direction / np.sin(angle) * ((1 - weights) * lengths[0] + weights * lengths[1])


PATHS: dict[str, Path] = {"linear": linear, "spherical": spherical}


def morph(latents: np.ndarray, num_steps: int, path: Path) -> np.ndarray:
    """Goes from each latent to the next.

    Args:
        latents: float (K, L), at least two.
        num_steps: Points of each part, both ends included.
        path: The way between two.

    Returns:
        float64 (K - 1, num_steps, L).
    """
    positions = np.linspace(0, 1, num_steps)
    return np.stack([path(start, end, positions) for start, end in zip(latents[:-1], latents[1:], strict=True)])


def morph_degrees(degrees: Sequence[float] | np.ndarray, num_steps: int) -> np.ndarray:
    """The condition along ``morph``: evenly from each face's to the next one's; (K - 1, num_steps)."""
    return morph(np.asarray(degrees, np.float64)[:, None], num_steps, linear)[..., 0]
