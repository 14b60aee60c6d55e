"""Attribute vectors: ``python -m eval.attributes fit RUN --data DIR --out FILE``, then ``apply FILE --run RUN ...``.

``measure FILE --run RUN --judge JUDGE ...`` says for how many faces a judge sees what the vector adds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from eval.controls.judge import load_judge
from eval.drawing.animation import there_and_back
from eval.drawing.frames import labeled_frames, signed
from eval.drawing.grids import Row, face_grid
from eval.latent.attribute_vectors import (
    edited_latents,
    export_h5,
    import_h5py,
    load_attributes,
    save_attributes,
    split_attributes,
)
from eval.latent.encode import decode_images
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, ModelOptions, Options, PictureOptions, open_data, open_model
from eval.latent.origin import Origin
from eval.metrics.attribute_effect import attribute_effect
from shards.base import cli
from shards.base.files import make_folder

STRENGTHS = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5)
MEASURED_STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_NUM_FRAMES = 21


@dataclass(kw_only=True)
class FitConfig(ModelOptions, Options):
    """Fits the vectors of all bool and degree labels of a data set."""

    data: str
    """Packed data set with labels; any faces cropped like the run's own will do."""
    out: str
    """safetensors file for raw and unit vectors and counts."""
    split: str = "train"
    """Split to fit on."""
    h5: str | None = None
    """The same as an HDF5 file; needs h5py."""


@dataclass(kw_only=True)
class ApplyConfig(PictureOptions, FaceOptions, ModelOptions):
    """Shows faces with an attribute added and taken away."""

    file: str
    """What ``fit`` wrote."""
    attribute: str
    """Name of the attribute."""
    without: list[str] = field(default_factory=list)
    """Attributes that shall stay as they are: what the vector shares with theirs is taken out of it."""
    strengths: list[float] = field(default_factory=lambda: list(STRENGTHS))
    """Columns of the grid, in units of the attribute's vector: 1 is the way from the mean of the images without the
    attribute to the mean of those with it."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if not self.strengths or not all(map(math.isfinite, self.strengths)):
            raise ValueError("strengths must be one or more numbers.")


@dataclass(kw_only=True)
class MeasureConfig(FaceOptions, ModelOptions):
    """Measures for how many faces a judge sees more of an attribute the more of it is added."""

    file: str
    """What ``fit`` wrote."""
    attribute: str
    """Name of the attribute."""
    judge: str
    """TorchScript file: images N x 3 x H x W in [0, 255] to one value each, such as the chance of a smile."""
    out: str
    """JSON file for the numbers."""
    without: list[str] = field(default_factory=list)
    """Attributes that shall stay as they are: what the vector shares with theirs is taken out of it."""
    strengths: list[float] = field(default_factory=lambda: list(MEASURED_STRENGTHS))
    """Two or more, in units of the attribute's vector."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if len(set(self.strengths)) < 2 or not all(map(math.isfinite, self.strengths)):
            raise ValueError("strengths must be two or more different numbers.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    name, config = cli.parse_command(
        {"fit": FitConfig, "apply": ApplyConfig, "measure": MeasureConfig},
        prog="python -m eval.attributes",
        description="Directions in latent space that add an attribute, such as a smile, to any face.",
        dest="command",
        positional=lambda command: ["run"] if command == "fit" else ["file"],
        args=args,
    )
    {"fit": fit, "apply": apply, "measure": measure}[name](config)


def fit(config: FitConfig) -> None:
    """Fits, writes, and prints the counts and the length of each vector."""
    if config.h5:
        import_h5py()
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


def apply(config: ApplyConfig) -> None:
    """Draws the grid: the original, and a column for each strength; 0 is the reconstruction."""
    attributes, origin = load_attributes(config.file)
    vector = attributes.vector(config.attribute, config.without)
    model = open_model(config, "encode", "decode")
    origin.check(model, config.file)
    faces = choose_faces(config, model)
    latents = faces.encode(model)

    def edit(strengths: Sequence[float] | np.ndarray) -> np.ndarray:
        return decode_images(model, edited_latents(latents, vector, strengths), faces.degrees[:, None])

    columns = sorted({0.0, *config.strengths})
    images = edit(columns)
    rows = [
        Row(np.concatenate([original[None], edited])) for original, edited in zip(faces.images, images, strict=True)
    ]
    config.save_grid(face_grid(rows, ["original", *map(signed, columns)]))
    if config.animation:
        fine = np.linspace(min(config.strengths), max(config.strengths), _NUM_FRAMES)
        labels = [f"{strength:+.2f}" for strength in fine]
        config.save_frames(there_and_back(list(labeled_frames(edit(fine), labels))))


def measure(config: MeasureConfig) -> None:
    """Edits the faces, lets the judge see them, prints and writes what it saw."""
    attributes, origin = load_attributes(config.file)
    vector = attributes.vector(config.attribute, config.without)
    judge = load_judge(Path(config.judge), torch.device("cpu"))
    model = open_model(config, "encode", "decode")
    origin.check(model, config.file)
    faces = choose_faces(config, model)
    strengths = sorted(set(config.strengths))
    edited = decode_images(model, edited_latents(faces.encode(model), vector, strengths), faces.degrees[:, None])
    judged = np.stack([judge(torch.from_numpy(edited[:, step])) for step in range(len(strengths))], axis=1)
    effect = attribute_effect(judged)
    print("strength       " + "  ".join(f"{strength:+6.2f}" for strength in strengths))
    print("mean judgment  " + "  ".join(f"{mean:6.3f}" for mean in effect.mean))
    print(
        f"of {len(judged):,} faces the judgment never falls for {effect.monotone:.1%}, "
        f"and is higher at {strengths[-1]:+g} than at {strengths[0]:+g} for {effect.rises:.1%}"
    )
    results = {
        "attribute": config.attribute,
        "without": config.without,
        "num_faces": len(judged),
        "strengths": strengths,
        "mean": effect.mean.tolist(),
        "monotone": effect.monotone,
        "rises": effect.rises,
    }
    path = Path(config.out)
    make_folder(path.parent)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {config.out}")


if __name__ == "__main__":
    cli.run(main)
