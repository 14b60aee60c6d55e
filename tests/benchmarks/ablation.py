"""What each part of the autoencoder's network and each setting of its training is worth, at equal training time.

    python tests/benchmarks/ablation.py DATA [--budget_sec 120] [--only '[base,lr_0.001]']

Each variant changes some options of the base. Its speed is measured first, so that its schedule ends when its time is
up. Held-out images are reconstructed with the averaged weights. NAME.md and NAME.json are rewritten after each variant;
a rerun of the same command skips the variants that are there.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from facegen.config import parse_args
from facegen.pixels import to_float
from facegen.processes.failures import TrainingDiverged
from facegen.training.trainer import Trainer
from families import Member, configuration, merged
from latents import held_out
from shards.base.files import write_json
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset

HERE = Path(__file__).resolve().parent
BASE = Member("ae", "ae_lfw")


def _network(**options: Any) -> dict[str, Any]:
    return {"model": {"network": options}}


def _convolutions(**options: Any) -> dict[str, Any]:
    """A stack of convolutions beside the shortcut, instead of MLPs and U-Net, at a rate that it bears."""
    stack = {"widths": [64, 128, 256], "norm": "none", "upsample": "nearest", "patch": 2}
    network = _network(**stack | {"components": {"num": 0}, "refinement": {"widths": []}} | options)
    return network | {"optim": {"lr": 0.0005}}


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("components, MLPs, refinement", {}),
    "no_refinement": ("without the refinement", _network(refinement={"widths": []})),
    "no_mlp": ("MLPs without residual blocks", _network(components={"mlp_blocks": 0})),
    "components_320": ("half as many components", _network(components={"num": 320})),
    "no_components": ("shortcut and refinement, no MLPs", _network(components={"num": 0})),
    "linear": ("shortcut alone", _network(components={"num": 0}, refinement={"widths": []})),
    "linear_random": (
        "shortcut alone, random start",
        {"init": "random"} | _network(components={"num": 0}, refinement={"widths": []}),
    ),
    "refinement_wide": ("refinement of twice the width", _network(refinement={"widths": [64, 128, 256]})),
    "refinement_patch_1": (
        "refinement at full resolution",
        _network(refinement={"widths": [16, 32, 64, 128], "patch": 1}),
    ),
    "refinement_patch_4": ("refinement over 4x4 patches", _network(refinement={"widths": [64, 128], "patch": 4})),
    "refinement_blocks_2": ("two residual blocks in the refinement", _network(refinement={"blocks": 2})),
    "refinement_norm": ("GroupNorm in the refinement", _network(refinement={"norm": True})),
    "convolutions": ("shortcut and convolutions", _convolutions()),
    "convolutions_random": ("shortcut and convolutions, random start", {"init": "random"} | _convolutions()),
    "convolutions_alone": (
        "convolutions without a shortcut",
        {"init": "random"} | _convolutions(shortcut="none", output="tanh"),
    ),
    "convolutions_blocks": ("shortcut, convolutions, residual blocks", _convolutions(residual_blocks=1)),
    "convolutions_transposed": (
        "shortcut, transposed convolutions, residual blocks",
        _convolutions(residual_blocks=1, upsample="transposed"),
    ),
    "convolutions_pixel_shuffle": (
        "shortcut, convolutions with pixel shuffle, residual blocks",
        _convolutions(residual_blocks=1, upsample="pixel_shuffle"),
    ),
    "convolutions_group": (
        "shortcut, convolutions, residual blocks, GroupNorm",
        _convolutions(residual_blocks=1, norm="group"),
    ),
    "convolutions_batch": (
        "shortcut, convolutions, residual blocks, batch norm",
        _convolutions(residual_blocks=1, norm="batch"),
    ),
    "batch_64": ("batch 64", {"global_batch_size": 64}),
    "batch_128": ("batch 128", {"global_batch_size": 128}),
    "batch_64_lr": ("batch 64, learning rate 0.004", {"global_batch_size": 64, "optim": {"lr": 0.004}}),
    "lr_0.0005": ("learning rate 0.0005", {"optim": {"lr": 0.0005}}),
    "lr_0.001": ("learning rate 0.001", {"optim": {"lr": 0.001}}),
    "lr_0.004": ("learning rate 0.004", {"optim": {"lr": 0.004}}),
    "constant": ("constant learning rate", {"optim": {"schedule": "constant"}}),
    "average_1000": ("moving average of half-life 1,000 images", {"ema": {"half_life_images": 1000}}),
    "average_500": ("moving average of half-life 500 images", {"ema": {"half_life_images": 500}}),
    "no_average": ("no moving average", {"ema": {"half_life_images": 0}}),
}
"""What changes, and the options of the base that change."""


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set."""
    budget_sec: float = 120.0
    """Training time of each variant, without the search for principal components."""
    calibration_sec: float = 5.0
    """Time in which its speed is measured first."""
    only: list[str] = field(default_factory=list)
    """Variants to train; all where none is named."""
    split: str = "test"
    """Split of the held-out images."""
    threads: int = 1
    """Computing threads."""
    seed: int = 0
    """Seed of all variants."""
    out: Path = HERE / "results"
    """Folder for the table and the numbers."""
    name: str = "ablation"
    """Name of these files."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        unknown = sorted(set(self.only) - set(VARIANTS))
        if unknown:
            raise ValueError(f"--only does not know {', '.join(unknown)}; choose from {', '.join(VARIANTS)}.")
        if not 0 < self.calibration_sec < self.budget_sec:
            raise ValueError("calibration_sec must be positive and below budget_sec.")


@dataclass
class Row:
    """A variant's result."""

    name: str
    parameters: int
    start_mse: float
    images_per_sec: float
    images: int
    seconds: float
    mse: float | None
    """None where training diverged."""


class TimeIsUp(Exception):  # noqa: N818
    """Ends a training whose speed is known."""


def main() -> None:
    """Trains, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/ablation.py", description=__doc__ or "", positional=["data"])
    torch.set_num_threads(config.threads)
    dataset = Dataset(config.data)
    images = held_out(dataset, config.split)
    path = config.out / f"{config.name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    conditions = {
        "data": f"{dataset.manifest.name}, {dataset.image.width} pixels, fingerprint {dataset.fingerprint}",
        "held out": f"{len(images):,} images of {config.split}",
        "base": f"`{BASE.family} --config {BASE.preset}`",
        "seconds of training": f"{config.budget_sec:g}",
        "processor, threads, seed": f"{platform.processor() or platform.machine()}, {config.threads}, {config.seed}",
        "torch": torch.__version__,
    }
    rows = [Row(**row) for row in kept.get("rows", ())] if kept.get("conditions") == conditions else []
    config.out.mkdir(parents=True, exist_ok=True)
    for name in config.only or VARIANTS:
        if any(row.name == name for row in rows):
            continue
        rows.append(measured(name, images, config))
        write_json(path, {"conditions": conditions, "rows": [asdict(row) for row in rows]}, indent=1)
        (config.out / f"{config.name}.md").write_text(page(conditions, rows))
        print(table_row(rows[-1]), flush=True)
    print(page(conditions, rows))


def measured(name: str, images: torch.Tensor, config: Config) -> Row:
    """Trains one variant for the budget; images are uint8 N x H x W x C."""
    with tempfile.TemporaryDirectory() as folder:
        calibration = trainer_of(name, Path(folder) / "calibration", 10**6, config)
        start_mse = reconstruction_mse(calibration, images)
        speed = images_per_sec(calibration, config.calibration_sec)
        num_images = round(speed * config.budget_sec)
        trainer = trainer_of(name, Path(folder) / "run", num_images, config)
        started_sec = ended_sec = time.perf_counter()

        def on_step(*_: Any) -> None:
            nonlocal ended_sec
            ended_sec = time.perf_counter()

        with suppress(TrainingDiverged):
            trainer.fit(on_step)
        seconds = ended_sec - started_sec  # Without the last validation.
        num_parameters = sum(parameter.numel() for parameter in trainer.family.parameters())
        return Row(
            name,
            num_parameters,
            start_mse,
            trainer.images_seen / seconds,
            trainer.images_seen,
            seconds,
            reconstruction_mse(trainer, images) if trainer.images_seen >= num_images else None,
        )


def trainer_of(name: str, directory: Path, max_images: int, config: Config) -> Trainer:
    """A trainer of a variant, which reports nothing on the way."""
    never = 10**9
    own = {
        "data": str(config.data),
        "run": str(directory),
        "seed": config.seed,
        "max_images": max_images,
        "max_epochs": None,
        "monitor": {"log_every_images": never, "validate_every_images": never, "grid_every_images": never},
    }
    options = merged(merged(configuration(BASE), VARIANTS[name][1]), own)
    path = directory.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(options))
    return Trainer(parse_args([BASE.family, "--config", str(path)]))


def images_per_sec(trainer: Trainer, seconds: float) -> float:
    """Speed of training, without its first steps."""
    moments: list[tuple[float, int]] = []

    def on_step(trainer: Trainer, *_: Any) -> None:
        moments.append((time.perf_counter(), trainer.images_seen))
        if len(moments) > 5 and moments[-1][0] - moments[2][0] > seconds:
            raise TimeIsUp

    with suppress(TimeIsUp, TrainingDiverged):
        trainer.fit(on_step)
    (first_sec, first), (last_sec, last) = moments[2], moments[-1]
    return (last - first) / (last_sec - first_sec)


@torch.inference_mode()
def reconstruction_mse(trainer: Trainer, images: torch.Tensor) -> float:
    """On [-1, 1], of uint8 images N x H x W x C."""
    family, total = trainer.state.prepare_inference(), 0.0
    for part in images.split(64):
        expected = to_float(part)
        latents, _ = family.posterior(expected, {})
        total += float((family.decode(latents, {}) - expected).double().square().sum())
    return total / images.numel()


def page(conditions: dict[str, str], rows: list[Row]) -> str:
    """The results as Markdown."""
    lines = ["# Ablation", "", "Made by `python tests/benchmarks/ablation.py`.", ""]
    lines += [f"* {key}: {value}" for key, value in conditions.items()]
    lines += [
        "",
        "| variant | parameters | images/s | images | MSE before | MSE after |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *map(table_row, rows), ""])


def table_row(row: Row) -> str:
    """A variant's line of the table."""
    what = VARIANTS[row.name][0]
    cells = [f"{row.parameters:,}", f"{row.images_per_sec:.0f}", f"{row.images:,}"]
    cells += [f"{row.start_mse:.5f}", "diverged" if row.mse is None else f"{row.mse:.5f}"]
    return f"| {what} | {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)
