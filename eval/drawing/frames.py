"""Pictures that the latent tools share: grids of faces, and frames of animations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from eval.drawing.grids import Row, face_grid

_FRAME_COLUMNS = 4


def signed(value: float) -> str:
    """A step of a sweep as a label."""
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}"


def wall(images: np.ndarray, num_columns: int) -> Image.Image:
    """Faces uint8 (N, H, W, C) in rows; the last row may be shorter."""
    return face_grid([Row(images[first : first + num_columns]) for first in range(0, len(images), num_columns)])


def beside_originals(
    originals: np.ndarray, images: np.ndarray, labels: Sequence[str], names: Sequence[str] = ()
) -> Image.Image:
    """A row for each face: the original, then the face at each step.

    Args:
        originals: uint8 (N, H, W, C).
        images: uint8 (N, S, H, W, C).
        labels: Above each of the S steps.
        names: At the left of each of the N rows, or none.
    """
    shown = np.concatenate([originals[:, None], images], axis=1)
    rows = [Row(row, name) for row, name in zip(shown, names or [""] * len(shown), strict=True)]
    return face_grid(rows, ["original", *labels])


def labeled_frames(images: np.ndarray, labels: Sequence[str]) -> Iterator[Image.Image]:
    """One frame for each step, all of one size.

    Args:
        images: uint8 (N, S, H, W, C): N faces at S steps.
        labels: Above each of the S frames.
    """
    for step, label in enumerate(labels):
        faces = images[:, step]
        rows = [Row(faces[first : first + _FRAME_COLUMNS]) for first in range(0, len(faces), _FRAME_COLUMNS)]
        yield face_grid(rows, [label])
