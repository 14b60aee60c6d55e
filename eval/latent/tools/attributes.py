"""Attribute edits: vectors that add an attribute, such as a smile, to any face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel

from eval.drawing.animation import there_and_back
from eval.drawing.frames import beside_originals, labeled_frames, signed
from eval.latent.attribute_vectors import (
    edited_latents,
    export_h5,
    import_h5py,
    load_attributes,
    save_attributes,
    split_attributes,
)
from eval.latent.editing.editor import Editor
from eval.latent.encode import decode_images
from eval.latent.faces import Faces, choose_faces
from eval.latent.options import FaceOptions, ModelOptions, Options, PictureOptions, open_data, open_model
from eval.latent.origin import Origin
from eval.latent.tools.tool import StudioRoute, Tool
from facegen.model import Model
from shards.base.errors import UserError

STRENGTHS = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5)
_NUM_FRAMES = 21


def edit_faces(model: Model, faces: Faces, vector: np.ndarray, strengths: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each of N faces moved along a vector (L,) by each of S strengths: uint8 (N, S, H, W, C)."""
    return decode_images(model, edited_latents(faces.encode(model), vector, strengths), faces.degrees[:, None])


@dataclass(kw_only=True)
class FitAttributesConfig(ModelOptions, Options):
    """Fits the vectors of all bool and degree labels of a data set."""

    data: str
    """Packed data set with labels; any faces framed like the run's own will do."""
    out: str
    """safetensors file for raw and unit vectors and counts."""
    split: str = "train"
    """Split to fit on."""
    h5: str | None = None
    """HDF5 file for the same; needs the extra hdf5."""

    @property
    def outputs(self) -> list[str]:
        """Both files."""
        return [self.out, *([self.h5] if self.h5 else [])]


@dataclass(kw_only=True)
class ApplyConfig(PictureOptions, FaceOptions, ModelOptions):
    """Shows faces with an attribute added and removed."""

    file: str
    """File that ``fit`` wrote."""
    attribute: str
    """Name of the attribute."""
    without: list[str] = field(default_factory=list)
    """Attributes to keep unchanged: what the vector shares with theirs is removed from it."""
    strengths: list[float] = field(default_factory=lambda: list(STRENGTHS))
    """Columns of the grid, in units of the attribute's vector: 1 leads from the mean of the images without the
    attribute to the mean of those with it."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if not self.strengths or not all(map(math.isfinite, self.strengths)):
            raise ValueError("strengths must be one or more numbers.")


def fit(config: FitAttributesConfig) -> None:
    """Fits and writes the vectors, and prints the counts and length of each."""
    if config.h5:
        import_h5py()
    config.check_outputs()
    model = open_model(config, "encode")
    dataset = open_data(config.data, model, config.split)
    attributes = split_attributes(model, dataset, config.split)
    origin = Origin.of(model, dataset, config.split)
    save_attributes(config.out, attributes, origin)
    if config.h5:
        export_h5(config.h5, attributes, origin)
    width = max(map(len, attributes.names))
    print(f"{'attribute':{width}}  present   absent  length")
    lengths = np.linalg.norm(attributes.vectors, axis=1)
    for row in zip(attributes.names, attributes.num_present, attributes.num_absent, lengths, strict=True):
        print("{:{width}}  {:7,}  {:7,}  {:6.3f}".format(*row, width=width))
    print(f"wrote {config.out}" + (f" and {config.h5}" if config.h5 else ""))


def draw(config: ApplyConfig, model: Model) -> None:
    """Draws the grid: the original, and a column for each strength; 0 is the reconstruction."""
    attributes, origin = load_attributes(config.file)
    vector = attributes.vector(config.attribute, config.without)
    origin.check(model, config.file)
    faces = choose_faces(config, model)
    columns = sorted({0.0, *config.strengths})
    images = edit_faces(model, faces, vector, columns)
    config.save_grid(beside_originals(faces.images, images, [signed(strength) for strength in columns]))
    if config.animation:
        fine = np.linspace(min(config.strengths), max(config.strengths), _NUM_FRAMES)
        labels = [f"{strength:+.2f}" for strength in fine]
        frames = labeled_frames(edit_faces(model, faces, vector, fine), labels)
        config.save_frames(there_and_back(list(frames)))


class AttributeAnswer(BaseModel):
    """One attribute vector."""

    name: str
    num_present: int
    num_absent: int
    length: float


class AttributesAnswer(BaseModel):
    """All attribute vectors of a run."""

    attributes: list[AttributeAnswer]
    reason: str
    """Why there are none; else empty."""


def list_attributes(run: Editor) -> AttributesAnswer:
    """Attribute vectors, with how many faces are behind each; or why there are none."""
    try:
        found = run.attributes.get()
    except UserError as error:
        return AttributesAnswer(attributes=[], reason=str(error))
    lengths = np.linalg.norm(found.vectors, axis=1)
    rows = zip(found.names, found.num_present, found.num_absent, lengths, strict=True)
    return AttributesAnswer(
        attributes=[
            AttributeAnswer(name=name, num_present=int(present), num_absent=int(absent), length=float(length))
            for name, present, absent, length in rows
        ],
        reason="",
    )


TOOL = Tool(
    name="attributes",
    about="Directions in latent space that add an attribute, such as a smile, to any face.",
    options=ApplyConfig,
    draw=draw,
    needs=("encode", "decode"),
    routes=(StudioRoute("attributes", list_attributes, "GET", "Overview"),),
)
