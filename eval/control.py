"""Does a conditional model do what it is asked: ``python -m eval.control RUN [RUN ...] --data DIR --out DIR``.

The judge is a regressor trained on the data set's training images and their true degrees, and checked on held-out ones;
or a TorchScript file, such as a smile classifier. It sees samples, and held-out faces encoded with their own degree and
decoded with another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from eval.base.runs import file_name, open_runs
from eval.controls.judge import (
    as_judge,
    has_degrees,
    judge_faces,
    judge_quality,
    judge_samples,
    load_judge,
    train_judge,
)
from eval.controls.response import ASKED, Judge, control, telling
from eval.drawing.grids import Row, face_grid
from eval.latent.encode import decode_images, encode_split
from eval.latent.options import save_png
from facegen.model import Model
from facegen.pixels import to_uint8
from facegen.processes.group import make_accelerator
from shards.base.errors import UserError
from shards.base.files import output_folder, write_bytes, writing_to
from shards.command_line import cli
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.loading.reader import check_split

TOLD_APART = (-0.7, 0.7)
"""Degrees that the judge must tell apart."""
_SWEEP = np.linspace(-1, 1, 11).round(2)
_NUM_SWEPT = 4
_SOFT = 2
"""Averagings over 3x3 pixels that make a face about as soft as a small model's samples."""


@dataclass
class ControlConfig:
    """Options of a measurement of conditional control."""

    runs: list[str]
    """Runs or snapshots of models conditioned on the same label; RUN:NAME samples with a sampler fitted to it."""
    data: str
    """Packed data set with the true degrees: the judge is trained on it, and its held-out faces are edited."""
    out: str
    """Directory for control.json and, for each run, a picture of sweeps."""
    judge: str | None = None
    """TorchScript file: images N x 3 x H x W in [0, 255] to one value each. Null trains a regressor on the data set."""
    threshold: float | None = None
    """Judgments at or above it mean that a face has the trait; null means 0 for a regressor and 0.5 for a file."""
    min_correlation: float = 0.5
    """A judge whose judgments of held-out images correlate less with their true degrees is refused; -1 takes any."""
    num_samples: int = 256
    """Samples, and held-out faces, at each degree."""
    judge_epochs: int = 15
    """Epochs of the regressor's training."""
    split: str = "test"
    """Held-out split: the judge is checked on it, and its first faces are edited."""
    seed: int = 0
    """Seed of the samples and of the regressor."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("num_samples", "judge_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


class ChosenJudge(NamedTuple):
    """A judge, its threshold, and its description for control.json."""

    judge: Judge
    threshold: float
    description: dict[str, Any]


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        ControlConfig,
        prog="python -m eval.control",
        description="Measures whether generated and edited faces have the degree that was asked for.",
        positional=["runs"],
        args=args,
    )
    device, dataset = make_accelerator().device, open_dataset(config.data)
    check_split(dataset, config.split)
    models = open_runs(config.runs, dataset, device)
    chosen = choose_judge(common_condition(models), dataset, config, device)
    out = output_folder(config.out)
    results = {
        "dataset_fingerprint": dataset.fingerprint,
        "split": config.split,
        "judge": chosen.description,
        "seed": config.seed,
        "runs": [],
    }
    print(judge_line(chosen))
    for name, model in models:
        results["runs"].append({"run": name} | measure(model, dataset, config, chosen))
        print("\n".join(summary(results["runs"][-1])))
        picture = sweep_picture(model, dataset, config)
        save_png(str(out / f"sweep_{file_name(name)}.png"), picture)
    with writing_to(out):
        write_bytes(out / "control.json", (json.dumps(results, indent=1) + "\n").encode())
    print(f"wrote {out / 'control.json'} and sweep_*.png beside it")


def common_condition(models: Sequence[tuple[str, Model]]) -> str:
    """The label that all models generate by.

    Raises:
        UserError: A model without one, or different ones.
    """
    for name, model in models:
        if model.condition is None:
            raise UserError(f"{name} is not a conditional model: the family {model.family} has no condition.")
    conditions = {str(model.condition) for _, model in models}
    if len(conditions) > 1:
        raise UserError(f"the runs generate by {' and '.join(sorted(conditions))}; give runs of one label at a time.")
    return conditions.pop()


def choose_judge(label: str, dataset: Dataset, config: ControlConfig, device: torch.device) -> ChosenJudge:
    """Loads or trains the judge, and checks it on the split where the data set has the label.

    Raises:
        UserError: The judge cannot be loaded or trained, or reads the label too badly.
    """
    if config.judge is None:
        judge, usual = as_judge(train_judge(dataset, label, config.judge_epochs, config.seed, device)), 0.0
        description: dict[str, Any] = {"kind": "regressor", "epochs": config.judge_epochs}
    else:
        path = Path(config.judge)
        judge, usual = load_judge(path, device), 0.5
        description = {"kind": "file", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if has_degrees(dataset, label):
        quality = judge_quality(judge, dataset, config.split, label)
        soft = judge_quality(judge, dataset, config.split, label, _SOFT)
        if not quality.correlation >= config.min_correlation:
            raise UserError(
                f"the judge is worthless: its judgments of {quality.num_images:,} held-out images and their label "
                f"'{label}' have a correlation of {quality.correlation:.3f}, below --min_correlation "
                f"{config.min_correlation:g}; give more --judge_epochs, more training images, or a --judge file."
            )
        description |= {"held_out": quality._asdict(), "held_out_soft": soft._asdict()}
    return ChosenJudge(judge, usual if config.threshold is None else config.threshold, description)


def measure(model: Model, dataset: Dataset, config: ControlConfig, chosen: ChosenJudge) -> dict[str, Any]:
    """Measures a run on samples and on held-out faces decoded at other degrees; returns its entry of control.json."""
    result = {
        "weights": model.weights,
        "images_seen": model.images_seen,
        "condition": model.condition,
        "trained_range": model.condition_range,
    }
    latents = encode_split(model, dataset, config.split, limit=config.num_samples)
    views = {
        "samples": lambda degrees: judge_samples(model, chosen.judge, degrees, config.num_samples, config.seed),
        "faces": lambda degrees: judge_faces(model, chosen.judge, degrees, latents),
    }
    for name, judged_at in views.items():
        judged, (low, high) = judged_at(ASKED), judged_at(TOLD_APART)
        if not np.isfinite(judged).all():
            raise UserError(
                f"the judge finds no number in {(~np.isfinite(judged)).sum():,} of {judged.size:,} {name} of "
                f"{model.name}; give another --judge, or a model whose images are finite."
            )
        result[name] = {
            "num": judged.shape[1],
            "control": asdict(control(np.array(ASKED), judged)),
            "told_apart": {
                "degrees": TOLD_APART,
                "threshold": chosen.threshold,
                **asdict(telling(low, high, chosen.threshold)),
            },
            "curve": {
                "asked": list(ASKED),
                "mean": judged.mean(axis=1).tolist(),
                "std": judged.std(axis=1).tolist(),
            },
        }
    return result


def judge_line(chosen: ChosenJudge) -> str:
    """Says how well the judge reads held-out images."""
    if "held_out" not in chosen.description:
        return f"the judge: a file, sha256 {chosen.description['sha256'][:12]}, unchecked: the data lack this label"
    sharp, soft = chosen.description["held_out"], chosen.description["held_out_soft"]
    return (
        f"the judge, on {sharp['num_images']:,} held-out images: slope {sharp['slope']:.3f}, correlation "
        f"{sharp['correlation']:.3f}, mean absolute error {sharp['mean_absolute_error']:.3f}; on the same ones "
        f"softened, as generated faces are: slope {soft['slope']:.3f}, correlation {soft['correlation']:.3f}"
    )


def summary(result: dict[str, Any]) -> list[str]:
    """The numbers of a run as lines of text."""
    low, high = result["trained_range"]
    lines = [
        f"{result['run']} ({result['weights']}, {result['images_seen']:,} images seen), condition "
        f"{result['condition']}, trained from {low:g} to {high:g}"
    ]
    for view in ("samples", "faces"):
        numbers, told = result[view]["control"], result[view]["told_apart"]
        lines.append(
            f"  {result[view]['num']} {view}, asked -1 to 1: slope {numbers['slope']:.3f}, correlation "
            f"{numbers['correlation']:.3f}; it has an effect from {numbers['low']:g} to {numbers['high']:g}; "
            f"{told['degrees'][0]:g} and {told['degrees'][1]:g} are in the right order {told['paired']:.1%}, on the "
            f"right side of {told['threshold']:g} {told['accuracy']:.1%}"
        )
    return lines


def sweep_picture(model: Model, dataset: Dataset, config: ControlConfig) -> Image.Image:
    """Degrees from -1 to 1, a row for each latent vector: held-out faces, then samples."""
    latents = encode_split(model, dataset, config.split, limit=config.num_samples)[:_NUM_SWEPT]
    rows = [Row(row) for row in decode_images(model, np.repeat(latents[:, None], len(_SWEEP), axis=1), _SWEEP)]
    columns = []
    for degree in _SWEEP:
        labels = {str(model.condition): torch.full((_NUM_SWEPT,), float(degree))}
        columns.append(to_uint8(model.sample(_NUM_SWEPT, seed=config.seed, labels=labels)).cpu().numpy())
    rows += [Row(row) for row in np.stack(columns, axis=1)]
    return face_grid(rows, [f"{degree:+.1f}" for degree in _SWEEP])


if __name__ == "__main__":
    cli.run(main)
