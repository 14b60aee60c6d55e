"""Evaluates trained runs on one split: ``python -m eval.report RUN [RUN ...] --data DIR --split test --out REPORT``.

Also ``accelerate launch -m eval.report ...`` on several processes, with the same numbers.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from eval.catalog import SPACES, metrics
from eval.evaluate import Evaluation, evaluate_run
from eval.features import FeatureSpace, load_efflite0, load_inception
from eval.inception_weights import find_inception_weights
from eval.measures import FEW_IMAGES
from eval.protocol import protocol_lines, split_title
from eval.reference import reference_features
from eval.render import Figure, prepare_out, write_report
from eval.results import Report, RunResult
from eval.run_pass import Protocol
from eval.shared_pictures import held_out_faces, shared_pictures
from eval.table import build_table, terminal
from facegen.model import Model, load
from facegen.processes import make_accelerator
from shards import cli
from shards.cli import UserError
from shards.dataset import Dataset
from shards.reader import check_split

_WAIT = datetime.timedelta(hours=2)
"""How long ranks wait for each other: the main one measures cost and draws pictures alone."""


@dataclass
class ReportConfig:
    """Options of a report."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories; RUN:NAME samples with a sampler fitted to it."""
    data: str
    """Packed data set to evaluate on."""
    out: str
    """Directory of the report; an earlier report there is replaced."""
    split: str = "test"
    """Split to evaluate on."""
    num_images: int | None = None
    """Use only the first this many images of the split; all when null."""
    num_samples: int | None = None
    """Samples for the distances; as many as images when null."""
    batch_size: int = 64
    """Images per process and pass."""
    seed: int = 0
    """Seed of samples and posterior draws."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes what accelerate finds."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; the average where there is one when null."""
    fid_weights: str = "auto"
    """File of Inception weights in torch-fidelity's layout for FID and KID; auto takes torch-fidelity's cached file or
    downloads it, none leaves FID out."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_samples", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")


def main() -> None:
    """The entry point."""
    config = cli.parse(
        ReportConfig,
        prog="python -m eval.report",
        description="Evaluates trained runs on one split and writes report.html, report.md, report.json and figures/.",
        positional=["runs"],
    )
    dataset = Dataset(config.data)
    check_split(dataset, config.split)
    accelerator = make_accelerator(config.device == "cpu", [InitProcessGroupKwargs(timeout=_WAIT)])
    models = load_models(config, dataset, accelerator.device)
    out = Path(config.out)
    prepare_out(out)
    report, figures = make_report(config, dataset, models, accelerator)
    if accelerator.is_main_process:
        write_report(out, report, figures, split_title(config.split))
        print(f"\n{report.title}\n\n{terminal(build_table(report))}")
        for warning in report.warnings:
            print(f"note: {warning}")
        print(f"wrote {out / 'report.html'}")
    accelerator.end_training()


def load_models(config: ReportConfig, dataset: Dataset, device: torch.device) -> list[tuple[str, Model]]:
    """Loads the runs and names them apart.

    Raises:
        UserError: No snapshot, or a model of other images than the data set's.
    """
    models = [load_run(path, device, config.weights) for path in config.runs]
    image = dataset.image
    for path, model in zip(config.runs, models, strict=True):
        if tuple(model.image_shape) != (image.channels, image.height, image.width):
            theirs = "x".join(map(str, (*model.image_shape[1:], model.image_shape[0])))
            raise UserError(
                f"{path} was trained on images of {theirs} (height x width x channels) and {dataset.root} holds "
                f"{image.height}x{image.width}x{image.channels}; pack the data set at the run's size."
            )
    names = [f"{model.name}:{model.sampler}" if model.sampler else model.name for model in models]
    is_unique = [names.count(name) == 1 for name in names]
    labels = [
        name if unique else f"{name} ({n})" for n, (name, unique) in enumerate(zip(names, is_unique, strict=True), 1)
    ]
    return list(zip(labels, models, strict=True))


def load_run(path: str, device: torch.device, weights: Literal["ema", "raw"] | None) -> Model:
    """Loads ``RUN`` with its prior, or ``RUN:NAME`` with a sampler."""
    run, colon, sampler = path.rpartition(":")
    if colon and not Path(path).exists():
        return load(run, device=device, weights=weights, sampler=sampler)
    return load(path, device=device, weights=weights)


def make_report(
    config: ReportConfig, dataset: Dataset, models: list[tuple[str, Model]], accelerator: Accelerator
) -> tuple[Report, dict[str, Figure]]:
    """Evaluates the models one after the other.

    Returns:
        The report, and its pictures by file name; complete on the main process only.
    """
    available = dataset.num_samples(config.split)
    num_images = min(config.num_images or available, available)
    protocol = Protocol(
        dataset, config.split, num_images, config.num_samples or num_images, config.batch_size, config.seed
    )
    spaces, absent = load_spaces(config.fid_weights, accelerator)
    reference = reference_features(dataset, config.split, num_images, spaces, config.batch_size, accelerator)
    faces = held_out_faces(protocol)
    evaluation = Evaluation(protocol, spaces, absent, reference, faces, accelerator)

    figures: dict[str, Figure] = {}
    runs = []
    for (label, model), path in zip(models, config.runs, strict=True):
        result, pictures = evaluate_run(evaluation, label, model, path)
        runs.append(result)
        figures |= pictures
    report = Report(
        title=f"{', '.join(label for label, _ in models)}: {split_title(config.split)}",
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        protocol=protocol_lines(protocol, spaces, _by_title(absent), accelerator),
        metrics=metrics(),
        runs=runs,
        warnings=_warnings(protocol, _by_title(absent), runs),
    )
    if accelerator.is_main_process:
        report.pictures, shared = shared_pictures(faces, models)
        figures |= shared
    return report, figures


def load_spaces(fid_weights: str, accelerator: Accelerator) -> tuple[list[FeatureSpace], dict[str, str]]:
    """Loads the feature spaces that can be had, and says why the others can't, by the space's name."""
    spaces = [load_efflite0(accelerator.device)]
    with accelerator.local_main_process_first():  # One download a machine.
        weights, reason = find_inception_weights(fid_weights)
    if weights is None:
        return spaces, {"inception": reason}
    return [*spaces, load_inception(weights, accelerator.device)], {}


def _by_title(absent: dict[str, str]) -> dict[str, str]:
    return {space.frechet: absent[space.name] for space in SPACES if space.name in absent}


def _warnings(protocol: Protocol, absent: dict[str, str], runs: list[RunResult]) -> list[str]:
    warnings = [f"{name} was {reason}" for name, reason in absent.items()]
    if protocol.split == "train":
        warnings.append("These are numbers on images that the models were trained on, not on held-out ones.")
    if min(protocol.num_images, protocol.num_samples) < FEW_IMAGES:
        num = min(protocol.num_images, protocol.num_samples)
        warnings.append(
            f"Fréchet distances are over {num:,} images, fewer than {FEW_IMAGES:,}: they are biased upwards and can be "
            "compared only with distances over the same number."
        )
    warnings += [run.difference for run in runs if run.difference]
    return warnings + [f"{run.name}: {warning}" for run in runs for warning in run.warnings]


if __name__ == "__main__":
    cli.run(main)
