"""Faces at every degree of the label that a conditional model generates by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.drawing.frames import beside_originals, signed
from eval.latent.conditions import degree_text
from eval.latent.faces import Faces
from eval.latent.tools.smile import EXTENDED_SWEEP, FORCED_LABELS, SWEEP, degree_sweep, forced
from eval.reports.part import Absent, Drawing, Part, RunPicture
from eval.reports.parts.identity import identity_note
from eval.reports.run_context import RunContext

_NUM_FACES = 4


def degree_picture(run: RunContext) -> Drawing:
    """Faces at every degree of training."""
    caption = f"Held-out faces, encoded once and decoded at each degree of {run.model.condition} from −1 to 1."
    return _sweep(run, SWEEP, caption)


def extended_picture(run: RunContext) -> Drawing:
    """Faces at degrees far beyond those of training."""
    low, high = run.model.condition_range
    caption = f"The same from −3 to 3; training images had degrees from {signed(low)} to {signed(high)}."
    return _sweep(run, EXTENDED_SWEEP, caption)


def _sweep(run: RunContext, degrees: Sequence[float] | np.ndarray, caption: str) -> Drawing:
    faces = run.faces(_NUM_FACES)
    images = degree_sweep(run.model, faces.encode(run.model), degrees)
    names = [degree_text(degree) for degree in faces.degrees]
    columns = [signed(degree) for degree in degrees]
    caption += f" At the left: the own degree.{identity_note(run, faces.images, images, columns)}"
    return Drawing(beside_originals(faces.images, images, columns, names), caption)


def forced_picture(run: RunContext) -> Drawing | Absent:
    """Faces encoded with their own degree and decoded with another."""
    condition, faces = run.model.condition, run.faces()
    known = np.flatnonzero(~np.isnan(faces.degrees))[:_NUM_FACES]
    if not len(known):
        return Absent(f"the degree of {condition} of these images is not known; give data with that label")
    chosen = Faces(faces.images[known], tuple(faces.names[face] for face in known), faces.degrees[known])
    names = [degree_text(degree) for degree in chosen.degrees]
    caption = f"Encoded with the own degree of {condition}, at the left, and decoded with it shifted."
    images = forced(run.model, chosen)
    caption += identity_note(run, chosen.images, images, FORCED_LABELS)
    return Drawing(beside_originals(chosen.images, images, FORCED_LABELS, names), caption)


PARTS = [
    Part(
        name="degrees",
        content="degree sweeps and forced degrees of conditional models",
        needs=("encode", "decode"),
        group="Edits",
        pictures=(
            RunPicture("degrees.png", "Degree sweep", degree_picture, is_conditional=True),
            RunPicture("degrees_extended.png", "Extended degree sweep", extended_picture, is_conditional=True),
            RunPicture("degrees_forced.png", "Forced degrees", forced_picture, is_conditional=True),
        ),
    )
]
