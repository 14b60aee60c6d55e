"""Degree sweeps: what a conditional model makes of one face at many degrees of its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.drawing.animation import there_and_back
from eval.drawing.frames import beside_originals, labeled_frames, signed
from eval.drawing.grids import Row, face_grid
from eval.latent.conditions import degree_text
from eval.latent.encode import decode_images
from eval.latent.faces import Faces, choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions
from eval.latent.tools.tool import Tool
from facegen.model import Model
from shards.base.errors import UserError

SWEEP = np.round(np.arange(-10, 11) * 0.1, 1)
"""The trained range, in steps of 0.1."""
EXTENDED_SWEEP = np.arange(-12, 13) * 0.25
"""Three times the trained range, in steps of 0.25."""
FORCED_SHIFTS = (-0.7, -0.5, 0.5, 0.7)
FORCED_LABELS = ("own", *(signed(shift) for shift in FORCED_SHIFTS))


def degree_sweep(model: Any, latents: np.ndarray, degrees: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each latent (N, L) decoded at each of D degrees: uint8 (N, D, H, W, C)."""
    repeated = np.repeat(latents[:, None], len(degrees), axis=1)
    return decode_images(model, repeated, np.asarray(degrees, np.float32))


def forced(model: Any, faces: Faces, shifts: Sequence[float] = FORCED_SHIFTS) -> np.ndarray:
    """Faces encoded with their own degree, and decoded with it and with it shifted.

    Returns:
        uint8 (N, 1 + shifts, H, W, C): the reconstructions first.
    """
    degrees = faces.degrees[:, None] + np.array([0.0, *shifts])
    latents = np.repeat(faces.encode(model)[:, None], degrees.shape[1], axis=1)
    return decode_images(model, latents, degrees)


@dataclass(kw_only=True)
class SmileConfig(PictureOptions, FaceOptions, ModelOptions):
    """Options of degree sweeps."""

    extended: bool = False
    """Degrees from -3 to 3 instead of -1 to 1."""
    forced: bool = False
    """Encode each face with its own degree, and decode it with that degree shifted by -0.7, -0.5, +0.5 and +0.7."""
    seed: int = 0
    """Without --images and --data the sweep is over --num samples of this seed."""

    def __post_init__(self) -> None:
        """Rejects options that exclude each other."""
        super().__post_init__()
        if self.extended and self.forced:
            raise ValueError("--extended and --forced are different pictures; give one of them.")


def draw(config: SmileConfig, model: Model) -> None:
    """Draws the sweep, or the faces with a forced degree."""
    if config.forced:
        _draw_forced(config, model)
    else:
        _draw_sweep(config, model)


def _draw_sweep(config: SmileConfig, model: Model) -> None:
    """A row for each face, a column for each degree."""
    degrees = EXTENDED_SWEEP if config.extended else SWEEP
    labels = [signed(degree) for degree in degrees]
    if config.images or config.data:
        faces = choose_faces(config, model)
        images = degree_sweep(model, faces.encode(model), degrees)
        grid = beside_originals(faces.images, images, labels)
    else:
        images = degree_sweep(model, model.prior(config.num, seed=config.seed).cpu().numpy(), degrees)
        grid = face_grid([Row(row) for row in images], labels)
    config.save_grid(grid)
    config.save_frames(there_and_back(list(labeled_frames(images, labels))))


def _draw_forced(config: SmileConfig, model: Model) -> None:
    """A row for each face: original, reconstruction, and one for each shift; its own degree at the left."""
    faces = choose_faces(config, model)
    unknown = [name for name, degree in zip(faces.names, faces.degrees, strict=True) if np.isnan(degree)]
    if unknown:
        raise UserError(
            f"the degree of '{model.condition}' of face {unknown[0]} is unknown, so it cannot be shifted; "
            "give --degree NUMBER, or faces of a data set with that label."
        )
    images = forced(model, faces)
    names = [degree_text(degree) for degree in faces.degrees]
    config.save_grid(beside_originals(faces.images, images, FORCED_LABELS, names))
    # From the strongest shift down to the strongest up, through the face as it is.
    order = np.argsort([0.0, *FORCED_SHIFTS], kind="stable")
    config.save_frames(there_and_back(list(labeled_frames(images[:, order], [FORCED_LABELS[step] for step in order]))))


TOOL = Tool(
    name="smile",
    about="Shows faces at many degrees of a conditional model's label, such as smile.",
    options=SmileConfig,
    draw=draw,
    needs=("decode",),
    is_conditional=True,
)
