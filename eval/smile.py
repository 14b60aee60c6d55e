"""Faces at many degrees of a conditional model's label: ``python -m eval.smile RUN --data DIR --out smile.png``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.drawing.animation import there_and_back
from eval.drawing.frames import beside_originals, labeled_frames, signed
from eval.drawing.grids import Row, face_grid
from eval.latent.conditions import degree_text, require_condition
from eval.latent.degree_sweep import EXTENDED_SWEEP, FORCED_SHIFTS, SWEEP, degree_sweep, forced
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions, open_model
from facegen.model import Model
from shards.base import cli
from shards.base.errors import UserError


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
            raise ValueError("--extended and --forced are two different pictures; give one of them.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        SmileConfig,
        prog="python -m eval.smile",
        description="Shows what a conditional model makes of faces at many degrees, of smile or of another label.",
        positional=["run"],
        args=args,
    )
    model = open_model(config, "decode")
    require_condition(model)
    if config.forced:
        draw_forced(config, model)
    else:
        draw_sweep(config, model)


def draw_sweep(config: SmileConfig, model: Model) -> None:
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


def draw_forced(config: SmileConfig, model: Model) -> None:
    """A row for each face: original, reconstruction, and one for each shift; its own degree at the left."""
    faces = choose_faces(config, model)
    unknown = [name for name, degree in zip(faces.names, faces.degrees, strict=True) if np.isnan(degree)]
    if unknown:
        raise UserError(
            f"the degree of '{model.condition}' of face {unknown[0]} is not known, so it cannot be shifted; "
            "give --degree NUMBER, or faces of a data set with that label."
        )
    images = forced(model, faces)
    labels = ["own", *(signed(shift) for shift in FORCED_SHIFTS)]
    config.save_grid(beside_originals(faces.images, images, labels, [degree_text(degree) for degree in faces.degrees]))
    # From the strongest shift down to the strongest up, through the face as it is.
    order = np.argsort([0.0, *FORCED_SHIFTS], kind="stable")
    config.save_frames(there_and_back(list(labeled_frames(images[:, order], [labels[step] for step in order]))))


if __name__ == "__main__":
    cli.run(main)
