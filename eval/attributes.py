"""Attribute vectors: ``python -m eval.attributes fit RUN --data DIR --out FILE``, then ``apply FILE --run RUN ...``.

``measure FILE --run RUN --judge JUDGE ...`` counts the faces in which a judge sees what the vector adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from eval.controls.judge import load_judge
from eval.latent.attribute_vectors import load_attributes
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, ModelOptions, open_model
from eval.latent.tools.attributes import TOOL, FitAttributesConfig, edit_faces, fit
from eval.metrics.attribute_effect import attribute_effect
from shards.base.files import check_writable, write_json, writing_to
from shards.command_line import cli

MEASURED_STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(kw_only=True)
class MeasureConfig(FaceOptions, ModelOptions):
    """Counts the faces in which a judge sees more of an attribute the more of it is added."""

    file: str
    """File that ``fit`` wrote."""
    attribute: str
    """Name of the attribute."""
    judge: str
    """TorchScript file: images N x 3 x H x W in [0, 255] to one value each, such as the chance of a smile."""
    out: str
    """JSON file for the numbers."""
    without: list[str] = field(default_factory=list)
    """Attributes to keep unchanged: what the vector shares with theirs is removed from it."""
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
        {"fit": FitAttributesConfig, "apply": TOOL.options, "measure": MeasureConfig},
        prog="python -m eval.attributes",
        description=TOOL.about,
        dest="command",
        positional=lambda command: ["run"] if command == "fit" else ["file"],
        args=args,
    )
    {"fit": fit, "apply": TOOL.run, "measure": measure}[name](config)


def measure(config: MeasureConfig) -> None:
    """Edits the faces, shows them to the judge, and prints and writes its judgments."""
    check_writable(config.out)
    attributes, origin = load_attributes(config.file)
    vector = attributes.vector(config.attribute, config.without)
    judge = load_judge(Path(config.judge), torch.device("cpu"))
    model = open_model(config, "encode", "decode")
    origin.check(model, config.file)
    faces = choose_faces(config, model)
    strengths = sorted(set(config.strengths))
    edited = edit_faces(model, faces, vector, strengths)
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
    with writing_to(config.out):
        write_json(Path(config.out), results, indent=1)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    cli.run(main)
