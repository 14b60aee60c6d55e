"""Does a conditional model do what it is asked: ``python -m eval.control RUN --data DIR [--judge FILE] --out DIR``.

The judge is a regressor trained on the data set's training images and their true degrees, checked on held-out ones; or
a TorchScript file, such as a smile classifier, for real faces whose label is only yes or no.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from eval.degree_judge import as_judge, judge_quality, load_judge, train_judge
from eval.grids import Row, face_grid
from eval.metrics.conditional_control import ASKED, Judge, control, judge_samples, telling
from facegen.model import Model, load
from facegen.pixels import to_uint8
from facegen.processes import make_accelerator
from shards import cli
from shards.cli import UserError
from shards.dataset import Dataset
from shards.reader import check_split

TOLD_APART = (-0.7, 0.7)
"""The two degrees that the judge has to tell apart."""
_SWEEP = tuple(np.linspace(-1, 1, 11).round(2))
_NUM_SWEPT = 8


@dataclass
class ControlConfig:
    """Options of the measurement of conditional control."""

    run: str
    """Run directory or snapshot directory of a conditional model."""
    data: str
    """Packed data set with the true degrees, for training or checking the judge."""
    out: str
    """Directory for control.json and degree_sweep.png."""
    judge: str | None = None
    """TorchScript file: images N x 3 x H x W in [0, 255] to one value each. Null trains a regressor on the data set."""
    threshold: float | None = None
    """Judgment from which a face has the trait; 0 for a regressor and 0.5 for a file when null."""
    num_samples: int = 256
    """Samples at each degree."""
    judge_epochs: int = 15
    """Epochs of the regressor's training."""
    split: str = "test"
    """Held-out split that the judge is checked on."""
    seed: int = 0
    """Seed of the samples and of the regressor."""

    def __post_init__(self) -> None:
        for name in ("num_samples", "judge_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


class ChosenJudge(NamedTuple):
    """A judge, its threshold, and what to say of it."""

    judge: Judge
    threshold: float
    description: dict[str, Any]


def main() -> None:
    """The entry point."""
    config = cli.parse(
        ControlConfig,
        prog="python -m eval.control",
        description="Measures whether generated faces have the degree that was asked for.",
        positional=["run"],
    )
    device = make_accelerator().device
    model, dataset = load(config.run, device=device), Dataset(config.data)
    check_split(dataset, config.split)
    results = measure(model, dataset, config, choose_judge(model, dataset, config, device))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "control.json").write_text(json.dumps(results, indent=1) + "\n")
    sweep_picture(model, config.seed).save(out / "degree_sweep.png")
    print("\n".join(summary(results)))
    print(f"wrote {out / 'control.json'} and {out / 'degree_sweep.png'}")


def choose_judge(model: Model, dataset: Dataset, config: ControlConfig, device: torch.device) -> ChosenJudge:
    """Loads or trains the judge, and checks it where the split has true degrees.

    Raises:
        UserError: A model without a condition, or a judge that cannot be had.
    """
    if model.condition is None:
        raise UserError(f"{config.run} is no conditional model: the family {model.family} has no condition.")
    if config.judge is None:
        label = model.condition
        judge = as_judge(train_judge(dataset, label, config.judge_epochs, config.seed, device))
        quality = judge_quality(judge, dataset, config.split, label)
        description = {"kind": "regressor", "epochs": config.judge_epochs, "held_out": quality._asdict()}
        return ChosenJudge(judge, 0.0 if config.threshold is None else config.threshold, description)
    path = Path(config.judge)
    judge = load_judge(path, device)
    description = {"kind": "file", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return ChosenJudge(judge, 0.5 if config.threshold is None else config.threshold, description)


def measure(model: Model, dataset: Dataset, config: ControlConfig, chosen: ChosenJudge) -> dict[str, Any]:
    """Everything that control.json holds: the protocol and the numbers."""
    judged = judge_samples(model, chosen.judge, ASKED, config.num_samples, config.seed)
    low, high = judge_samples(model, chosen.judge, TOLD_APART, config.num_samples, config.seed)
    return {
        "run": model.name,
        "weights": model.weights,
        "images_seen": model.images_seen,
        "condition": model.condition,
        "trained_range": model.condition_range,
        "dataset_fingerprint": dataset.fingerprint,
        "split": config.split,
        "judge": chosen.description,
        "samples_per_degree": config.num_samples,
        "seed": config.seed,
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


def summary(results: Mapping[str, Any]) -> list[str]:
    """The numbers as lines of text."""
    numbers, told, judge = results["control"], results["told_apart"], results["judge"]
    lines = [
        f"{results['run']} ({results['weights']}, {results['images_seen']:,} images seen), condition "
        f"{results['condition']}, trained from {results['trained_range'][0]:g} to {results['trained_range'][1]:g}",
        f"asked -1 to 1: slope {numbers['slope']:.3f}, correlation {numbers['correlation']:.3f}; "
        f"it has an effect from {numbers['low']:g} to {numbers['high']:g}",
        f"{told['degrees'][0]:g} and {told['degrees'][1]:g} of the same latents: in the right order "
        f"{told['paired']:.1%}, on the right side of {told['threshold']:g} {told['accuracy']:.1%}",
    ]
    if "held_out" in judge:
        quality = judge["held_out"]
        lines.append(
            f"the judge on {quality['num_images']:,} held-out images: slope {quality['slope']:.3f}, correlation "
            f"{quality['correlation']:.3f}, mean absolute error {quality['mean_absolute_error']:.3f}"
        )
    return lines


def sweep_picture(model: Model, seed: int) -> Image.Image:
    """Samples at degrees from -1 to 1, a row for each latent vector."""
    columns = []
    for degree in _SWEEP:
        labels = {str(model.condition): torch.full((_NUM_SWEPT,), float(degree))}
        columns.append(to_uint8(model.sample(_NUM_SWEPT, seed=seed, labels=labels)).cpu().numpy())
    return face_grid([Row(row) for row in np.stack(columns, axis=1)], [f"{degree:+.1f}" for degree in _SWEEP])


if __name__ == "__main__":
    cli.run(main)
