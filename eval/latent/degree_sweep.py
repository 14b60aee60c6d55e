"""What a conditional model makes of one face at many degrees of its label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.latent.encode import decode_images
from eval.latent.faces import Faces

SWEEP = np.round(np.arange(-10, 11) * 0.1, 1)
"""The trained range, in steps of 0.1."""
EXTENDED_SWEEP = np.arange(-12, 13) * 0.25
"""Far beyond it, in steps of 0.25."""
FORCED_SHIFTS = (-0.7, -0.5, 0.5, 0.7)


def degree_sweep(model: Any, latents: np.ndarray, degrees: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each latent (N, L) decoded at each of D degrees: uint8 (N, D, H, W, C)."""
    repeated = np.repeat(latents[:, None], len(degrees), axis=1)
    return decode_images(model, repeated, np.asarray(degrees, np.float32))


def forced_degrees(degrees: np.ndarray, shifts: Sequence[float] = FORCED_SHIFTS) -> np.ndarray:
    """Each face's own degree (N,), then the same shifted; (N, 1 + shifts)."""
    return np.asarray(degrees)[:, None] + np.array([0.0, *shifts])


def forced(model: Any, faces: Faces, shifts: Sequence[float] = FORCED_SHIFTS) -> np.ndarray:
    """Faces encoded with their own degree, and decoded with it and with it shifted.

    Returns:
        uint8 (N, 1 + shifts, H, W, C): the reconstructions first.
    """
    degrees = forced_degrees(faces.degrees, shifts)
    latents = np.repeat(faces.encode(model)[:, None], degrees.shape[1], axis=1)
    return decode_images(model, latents, degrees)
