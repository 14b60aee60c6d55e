"""Error against the number of latents: our autoencoders, the report's AE, and principal components.

    python tests/benchmarks/latents.py DATA OUT [--latents '[32,64,128]'] [--seeds '[0,1,2]']

Each run is trained by ``facegen/train.py``, in turn; a finished one is not trained again, and an interrupted one
resumes. Reconstructions are of all held-out images, a VAE's from mu. OUT gets latents.md, latents.json and latents.svg.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

import facegen
from eval.drawing import svg
from facegen.losses.vae import kl_per_dim
from facegen.pixels import to_float, to_uint8
from families import ROOT, configuration, merged
from families import Member as Preset
from shards.base.errors import UserError
from shards.base.files import write_json
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from time_to_quality.scores import RFD, pca_reconstructions

_BATCH_SIZE = 64


class Kind(NamedTuple):
    """What is trained for every number of latents."""

    preset: Preset
    every_seed: bool
    """Whether all seeds are trained, or only the first."""


_VAE = {"reconstruction": "sum", "kld_weight": 0.01, "adversarial_weight": 4.9152, "judges_samples": False}
"""The AE-GAN's weight of the game, for a sum over 12,288 values."""
KINDS = {
    "AE-GAN": Kind(Preset("ae_gan", "ae_gan_lfw"), every_seed=True),
    "VAE-GAN": Kind(Preset("vae_gan", "ae_gan_lfw", {"family": "vae_gan", "model": _VAE}), every_seed=True),
    "AE": Kind(Preset("ae", "ae_lfw"), every_seed=False),
    "report's AE": Kind(Preset("ae", "ae_lfw_report"), every_seed=False),
}
"""The VAE-GAN has the network and the schedule of the AE-GAN."""


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set."""
    out: Path
    """Folder of the runs and of the results."""
    latents: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    """Numbers of latents."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds of the trainings with a discriminator; the others have the first."""
    max_images: int = 20_000
    """Training images of each run."""
    split: str = "test"
    """Split of the held-out images."""
    distances: bool = True
    """Whether to measure rFD, half a minute for each run."""


class Score(NamedTuple):
    """One run, or the components."""

    kind: str
    latents: int
    seed: int | None
    mse: float
    rfd: float | None
    kl: float | None


def main() -> None:
    """Trains, measures, writes."""
    config = parse(Config, prog="tests/benchmarks/latents.py", description=__doc__, positional=["data", "out"])
    dataset = Dataset(config.data)
    images = held_out(dataset, config.split)
    rfd = RFD(images, None) if config.distances else None
    scores = list(components(dataset, images, config.latents, rfd))
    for seed in config.seeds:
        for name, (preset, every_seed) in KINDS.items():
            for latents in config.latents if every_seed or seed == config.seeds[0] else ():
                directory = config.out / f"{name.replace(' ', '_')}_{latents}_{seed}"
                train(directory, preset, latents, seed, config)
                scores.append(measured(directory, name, latents, seed, images, rfd))
                write(scores, config)
    print((config.out / "latents.md").read_text())


def held_out(dataset: Dataset, split: str) -> torch.Tensor:
    """The images of a split, uint8 N x H x W x C."""
    return torch.cat([batch.images for batch in evaluation_batches(dataset, split, _BATCH_SIZE, fields=())])


def components(dataset: Dataset, images: torch.Tensor, latents: list[int], rfd: RFD | None) -> Iterator[Score]:
    """Principal components of the training images."""
    for num, reconstructions in zip(latents, pca_reconstructions(latents, dataset, images), strict=True):
        yield Score("PCA", num, None, _mse(reconstructions, images), _distance(rfd, reconstructions), None)


def train(directory: Path, preset: Preset, latents: int, seed: int, config: Config) -> None:
    """Trains or resumes one run; its configuration lies beside it."""
    if (directory / "snapshots" / f"images_{config.max_images:012d}").exists():
        return
    changes: dict[str, Any] = {"model": {"latent_size": latents}, "max_images": config.max_images, "seed": seed}
    path = directory.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(merged(configuration(preset), changes), sort_keys=False))
    arguments = ["--config", str(path), "--data", str(config.data), "--run", str(directory)]
    if subprocess.run([sys.executable, "facegen/train.py", preset.family, *arguments], cwd=ROOT).returncode:
        raise UserError(f"{directory.name} could not be trained; see its message above.")


@torch.inference_mode()
def measured(directory: Path, kind: str, latents: int, seed: int, images: torch.Tensor, rfd: RFD | None) -> Score:
    """The scores of a trained run on uint8 images N x H x W x C."""
    model = facegen.load(directory)
    reconstructions, kls = [], []
    for part in images.split(_BATCH_SIZE):
        mu, logvar = model.network.posterior(to_float(part), {})
        reconstructions.append(model.network.decode(mu, {}))
        if logvar is not None:
            kls.append(kl_per_dim(mu, logvar).sum(1))
    joined = torch.cat(reconstructions)
    kl = float(torch.cat(kls).mean()) if kls else None
    return Score(kind, latents, seed, _mse(joined, images), _distance(rfd, joined), kl)


def _mse(reconstructions: torch.Tensor, images: torch.Tensor) -> float:
    """On [-1, 1]; of images N x H x W x C against N x C x H x W."""
    return float((reconstructions - to_float(images)).double().square().mean())


def _distance(rfd: RFD | None, reconstructions: torch.Tensor) -> float | None:
    return rfd(to_uint8(reconstructions).numpy()) if rfd else None


def write(scores: list[Score], config: Config) -> None:
    """Replaces the three files."""
    write_json(config.out / "latents.json", [score._asdict() for score in scores], indent=1)
    lines = ["| | latents | MSE | rFD-EffLite0 | KL, nats |", "|---|---:|---:|---:|---:|"]
    series = []
    for color, kind in enumerate(("PCA", *KINDS)):
        points = []
        for latents in config.latents:
            same = [score for score in scores if (score.kind, score.latents) == (kind, latents)]
            if not same:
                continue
            columns = [[getattr(score, name) for score in same] for name in ("mse", "rfd", "kl")]
            cells = [_cell(values, digits) for values, digits in zip(columns, (5, 1, 0), strict=True)]
            lines.append(f"| {kind} | {latents} | {' | '.join(cells)} |")
            points.append((float(latents), statistics.mean(columns[0])))
        if points:
            x, y = zip(*points, strict=True)
            series.append(svg.Series(kind, x, y, color))
    (config.out / "latents.md").write_text("\n".join(lines) + "\n")
    (config.out / "latents.svg").write_text(svg.line_chart("Held-out MSE on [-1, 1]", series, "latents", log=True))


def _cell(values: list[float | None], digits: int) -> str:
    """The mean over seeds and, where there are several, the half range."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {(max(known) - min(known)) / 2:.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{spread}"


if __name__ == "__main__":
    run(main)
