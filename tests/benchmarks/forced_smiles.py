"""Faces made to smile: by the degree of a conditional model, or by the attribute vector of another.

    python tests/benchmarks/forced_smiles.py DATA JUDGE OUT RUN [RUN ...] [--label Smiling] [--num 300]

DATA has the label, JUDGE is a TorchScript file that gives the chance of a smile. The first held-out faces without the
label are shifted step by step. For each step, OUT gets the judge's mean, the share of faces that it calls smiling, and
the mean cosine to the original in the space of a face recognizer, beside that of two different originals: who smiles
should stay the same person.
``forced_smiles.json``, ``forced_smiles.md``, and a picture for each run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.base.columns import markdown_table
from eval.base.runs import file_name, open_runs
from eval.controls.judge import load_judge
from eval.controls.response import Judge
from eval.drawing.grids import Row, face_grid
from eval.features.face_space import face_weights, load_face
from eval.latent.attribute_vectors import presence, split_attributes
from eval.latent.conditions import condition_labels, split_degrees
from eval.latent.encode import decode_images
from eval.latent.options import save_png
from eval.reports.parts.identity import cosines
from eval.stand_ins.stand_in import read_rows
from facegen.model import Model
from shards.base.errors import UserError
from shards.base.files import output_folder, write_json
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from shards.packing.framing import Framing

DEGREES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
SMILES = 0.5
NUM_SHOWN = 8


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set with the label."""
    judge: Path
    """TorchScript file: images N x 3 x H x W in [0, 255] to the chance of a smile."""
    out: Path
    """Folder of the results."""
    runs: list[str]
    """Runs conditioned on the label, which are shifted by their degree, and others, by the label's attribute vector."""
    label: str = "Smiling"
    """A bool or a degree."""
    num: int = 300
    """Held-out faces."""
    split: str = "test"
    """Split of these faces; attribute vectors are those of the training split."""
    without: list[str] = field(default_factory=list)
    """Attributes whose part is removed from the vector."""


def main() -> None:
    """Shifts, judges, prints."""
    config = parse(Config, prog="forced_smiles.py", description=__doc__, positional=["data", "judge", "out", "runs"])
    torch.set_num_threads(1)
    dataset, out = Dataset(str(config.data)), output_folder(config.out)
    judge = load_judge(config.judge, torch.device("cpu"))
    space = load_face(face_weights(), torch.device("cpu"), Framing.of(dataset.manifest))
    rows_of_faces = _rows(dataset, config)
    originals = read_rows(dataset, config.split, rows_of_faces).numpy()
    known = space(torch.from_numpy(originals))
    others = float(cosines(known, np.roll(known, len(known) // 2, axis=0)).mean())
    results: dict[str, Any] = {
        "faces": len(originals),
        "originals": _judged(judge, originals) | {"cosine_of_others": others},
        "runs": {},
    }
    for name, model in open_runs(config.runs, dataset, torch.device("cpu")):
        steps, images = shifted(
            model, originals, split_degrees(model, dataset, config.split)[rows_of_faces], dataset, config
        )
        results["runs"][name] = []
        for position, step in enumerate(steps):
            faces = np.ascontiguousarray(images[:, position])
            cosine = float(cosines(known, space(torch.from_numpy(faces))).mean())
            results["runs"][name].append({"step": step, **_judged(judge, faces), "cosine": cosine})
        rows = [Row(faces, "") for faces in np.concatenate([originals[:, None], images], 1)[:NUM_SHOWN]]
        save_png(str(out / f"{file_name(name)}.png"), face_grid(rows, ["original", *(f"{step:g}" for step in steps)]))
    write_json(out / "forced_smiles.json", results, indent=1)
    table = markdown_table(
        ["run", "step", "judge", "smiling", "cosine to the original"],
        [
            [name, f"{row['step']:g}", f"{row['mean']:.3f}", f"{row['smiling']:.1%}", f"{row['cosine']:.4f}"]
            for name, rows in results["runs"].items()
            for row in rows
        ],
    )
    (out / "forced_smiles.md").write_text(table)
    smiling = results["originals"]["smiling"]
    print(f"of {len(originals)} originals {smiling:.1%} smile; the cosine of two of them is {others:.4f}\n{table}")


def _rows(dataset: Dataset, config: Config) -> np.ndarray:
    """Rows of the first held-out faces without the label, int64 (N,)."""
    if config.label not in dataset.fields:
        raise UserError(f"{dataset.address} has no label {config.label}; name one with --label.")
    groups = presence(dataset.fields[config.label], dataset.labels(config.label, config.split))
    if groups is None:
        raise UserError(f"label {config.label} does not divide split {config.split}; name another with --label.")
    return np.flatnonzero(groups[1])[: config.num]


def shifted(
    model: Model, originals: np.ndarray, degrees: np.ndarray, dataset: Dataset, config: Config
) -> tuple[tuple[float, ...], np.ndarray]:
    """The steps, and the faces (N, H, W, C) of these degrees (N,) at each, uint8 (N, S, H, W, C)."""
    latents = model.encode(originals, condition_labels(model, degrees))
    if model.condition == config.label:
        repeated = np.repeat(latents[:, None], len(DEGREES), axis=1)
        return DEGREES, decode_images(model, repeated, np.array(DEGREES))
    vector = split_attributes(model, dataset, "train").vector(config.label, config.without)
    moved = latents[:, None] + np.array(STRENGTHS, np.float32)[:, None] * vector
    return STRENGTHS, decode_images(model, moved, np.array(np.nan))


def _judged(judge: Judge, images: np.ndarray) -> dict[str, float]:
    values = judge(torch.from_numpy(images))
    return {"mean": float(values.mean()), "smiling": float((values >= SMILES).mean())}


if __name__ == "__main__":
    run(main)
