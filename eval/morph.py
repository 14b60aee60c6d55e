"""Morphs between faces: ``python -m eval.morph RUN --images a.jpg b.jpg --out morph.png [--animation morph.webp]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from eval.drawing.animation import there_and_back
from eval.drawing.frames import labeled_frames
from eval.drawing.grids import Row, face_grid
from eval.latent.encode import decode_images
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions, open_model
from eval.latent.paths import PATHS, morph, morph_degrees
from shards.base import cli


@dataclass(kw_only=True)
class MorphConfig(PictureOptions, FaceOptions, ModelOptions):
    """Options of morphs."""

    num: int = 2
    """Faces spread evenly over the split, where neither photos nor rows nor keys are given."""
    path: Literal["linear", "spherical", "both"] = "both"
    """The way from latent to latent: the straight line, the great circle, or a row of each."""
    steps: int = 12
    """Images from one face to the next, both reconstructions included."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, not {self.steps}.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        MorphConfig,
        prog="python -m eval.morph",
        description="Goes in latent space from each face to the next.",
        positional=["run"],
        args=args,
    )
    model = open_model(config, "encode", "decode")
    faces = choose_faces(config, model, at_least=2)
    latents = faces.encode(model)
    kinds = list(PATHS) if config.path == "both" else [config.path]
    degrees = morph_degrees(faces.degrees, config.steps)
    images = {kind: decode_images(model, morph(latents, config.steps, PATHS[kind]), degrees) for kind in kinds}
    positions = [f"{position:.2f}" for position in np.linspace(0, 1, config.steps)]
    config.save_grid(morph_grid(faces.images, images))
    if config.animation:
        # The end of a part is the start of the next.
        whole = {kind: np.concatenate([images[kind][0], *images[kind][1:, 1:]]) for kind in kinds}
        frames = np.stack([whole[kind] for kind in kinds])
        labels = [positions[0], *positions[1:] * (len(latents) - 1)]
        config.save_frames(there_and_back(list(labeled_frames(frames, labels))))


def morph_grid(originals: np.ndarray, images: Mapping[str, np.ndarray]) -> Image.Image:
    """A row for each way from each face to the next, between the two originals.

    Args:
        originals: uint8 (K, H, W, C).
        images: By the way's name: uint8 (K - 1, S, H, W, C).
    """
    num_parts, num_steps = next(iter(images.values())).shape[:2]
    rows = [
        Row(np.concatenate([originals[part, None], morphed[part], originals[part + 1, None]]), kind)
        for part in range(num_parts)
        for kind, morphed in images.items()
    ]
    positions = [f"{position:.2f}" for position in np.linspace(0, 1, num_steps)]
    return face_grid(rows, ["from", *positions, "to"])


if __name__ == "__main__":
    cli.run(main)
