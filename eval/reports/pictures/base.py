"""What makers of pictures get and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from eval.features.feature_set import FeatureSets
from eval.latent.faces import Faces, even_rows, read_faces
from eval.metrics.latent_usage import LatentUsage
from eval.reports.run_pass import Protocol
from shards.base.errors import UserError

NUM_FACES = 12
"""Held-out faces beside their reconstructions, spread evenly over the split."""

Figure = Image.Image | str | bytes
"""A picture, the text of an SVG chart, or the content of an animated WebP."""


@dataclass(frozen=True)
class Drawing:
    """A finished picture and what to say below its title."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Absent:
    """Why there is no picture."""

    reason: str


@dataclass(frozen=True)
class Context:
    """What a report knows when it draws one run's pictures."""

    protocol: Protocol
    usage: LatentUsage | None = None
    """Of the evaluated images; None where none were encoded."""
    latents: np.ndarray | None = None
    """mu of the first evaluated images, float32 (n, L)."""
    samples: FeatureSets | None = None
    """Features of samples."""
    held_out: FeatureSets | None = None
    """Features of the evaluated images."""
    train: FeatureSets | None = None
    """Features of training images."""

    def faces(self, model: Any, num: int = NUM_FACES) -> Faces:
        """Evaluated faces, spread evenly so that one person's many pictures do not fill a row."""
        protocol = self.protocol
        return read_faces(model, protocol.dataset, protocol.split, even_rows(protocol.num_images, num))


@dataclass(frozen=True)
class PictureMaker:
    """One picture that a run can have."""

    part: str
    """Of the report, which it belongs to."""
    file: str
    title: str
    make: Callable[[Any, Context], Drawing | Absent]
    needs: tuple[str, ...] = ()
    """What the model has to do, in the words of ``Model.can``."""
    is_conditional: bool = False
    """Only for models that generate by a label."""


def draw(maker: PictureMaker, model: Any, context: Context) -> Drawing | Absent:
    """Makes a picture, or says why the model cannot have it."""
    if maker.is_conditional and model.condition is None:
        return Absent(f"{model.family} generates by no label")
    lacking = [ability for ability in maker.needs if ability not in model.can]
    if lacking:
        return Absent(f"{model.family} does not {' and '.join(lacking)}")
    try:
        return maker.make(model, context)
    except UserError as error:
        return Absent(str(error).rstrip("."))
