"""Error against the number of latents: our autoencoders, the report's AE, and principal components.

    python tests/benchmarks/latents.py DATA OUT [--latents '[32,64,128]'] [--seeds '[0,1,2]']

Each run is trained by ``facegen/train.py``, in turn; what is trained or measured is not trained or measured again, and
an interrupted run resumes. Reconstructions are of all held-out images, a VAE's from mu. OUT gets latents.md,
latents.json, and the charts mse.svg and rfd.svg.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

import facegen
from eval.drawing import svg
from facegen.losses.vae import kl_per_dim
from facegen.pixels import to_float, to_uint8
from families import MEMBERS, ROOT, configuration, merged
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


KINDS = {
    "AE-GAN": Kind(Preset("ae_gan", "ae_gan_lfw"), every_seed=True),
    "VAE-GAN": Kind(MEMBERS["vae_gan"], every_seed=True),
    "AE": Kind(Preset("ae", "ae_lfw"), every_seed=False),
    "report's AE": Kind(Preset("ae", "ae_lfw_report"), every_seed=False),
}
"""The VAE-GAN has the network and the schedule of the AE-GAN."""
_GAME_FACTORS = {("AE-GAN", 512): 1.2, ("VAE-GAN", 512): 1.5}
"""At so many latents components leave little to tell, and the discriminator's word counts more."""
COMPONENTS = ("PCA", "PCA, mirrored images too")


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
    known = measured_before(config)
    scores = [known[name, num, None] for name in COMPONENTS for num in config.latents if (name, num, None) in known]
    if len(scores) < len(COMPONENTS) * len(config.latents):
        scores = [
            score for mirrored in (False, True) for score in components(dataset, images, config.latents, rfd, mirrored)
        ]
    for seed in config.seeds:
        for name, kind in KINDS.items():
            for latents in config.latents if kind.every_seed or seed == config.seeds[0] else ():
                directory = config.out / f"{name.replace(' ', '_')}_{latents}_{seed}"
                score = known.get((name, latents, seed))
                if score is None:
                    train(directory, name, latents, seed, config)
                    score = measured(directory, name, latents, seed, images, rfd)
                scores.append(score)
                write([*scores, *(known[key] for key in known.keys() - {_key(score) for score in scores})], config)
    print((config.out / "latents.md").read_text())


def measured_before(config: Config) -> dict[tuple[str, int, int | None], Score]:
    """The scores of an earlier call, by kind, latents and seed."""
    path = config.out / "latents.json"
    scores = [Score(**score) for score in json.loads(path.read_text())] if path.exists() else []
    return {_key(score): score for score in scores}


def _key(score: Score) -> tuple[str, int, int | None]:
    return score.kind, score.latents, score.seed


def held_out(dataset: Dataset, split: str) -> torch.Tensor:
    """The images of a split, uint8 N x H x W x C."""
    return torch.cat([batch.images for batch in evaluation_batches(dataset, split, _BATCH_SIZE, fields=())])


def components(
    dataset: Dataset, images: torch.Tensor, latents: list[int], rfd: RFD | None, mirrored: bool
) -> Iterator[Score]:
    """Principal components of the training images."""
    for num, reconstructions in zip(latents, pca_reconstructions(latents, dataset, images, mirrored), strict=True):
        yield Score(
            COMPONENTS[mirrored], num, None, _mse(reconstructions, images), _distance(rfd, reconstructions), None
        )


def train(directory: Path, kind: str, latents: int, seed: int, config: Config) -> None:
    """Trains or resumes one run; its configuration lies beside it."""
    if (directory / "snapshots" / f"images_{config.max_images:012d}").exists():
        return
    preset = KINDS[kind].preset
    options = configuration(preset)
    changes: dict[str, Any] = {"model": {"latent_size": latents}, "max_images": config.max_images, "seed": seed}
    if weight := options["model"].get("adversarial_weight"):
        changes["model"]["adversarial_weight"] = weight * _GAME_FACTORS.get((kind, latents), 1)
    path = directory.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(merged(options, changes), sort_keys=False))
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
    """Replaces the files; without distances there is no rfd.svg."""
    write_json(config.out / "latents.json", [score._asdict() for score in scores], indent=1)
    lines = ["| | latents | MSE | rFD-EffLite0 | KL, nats |", "|---|---:|---:|---:|---:|"]
    lines += [_line(kind, latents, same) for (kind, latents), same in _grouped(scores, config).items()]
    (config.out / "latents.md").write_text("\n".join(lines) + "\n")
    for name, title in (("mse", "Held-out MSE on [-1, 1]"), ("rfd", "rFD-EffLite0 of held-out faces")):
        if lines_of_kinds := list(_lines(scores, config, name)):
            (config.out / f"{name}.svg").write_text(svg.line_chart(title, lines_of_kinds, "latents", log=True))


def _grouped(scores: list[Score], config: Config) -> dict[tuple[str, int], list[Score]]:
    """The seeds of each point, in the order of the table."""
    points = ((kind, latents) for kind in (*COMPONENTS, *KINDS) for latents in config.latents)
    same = {point: [score for score in scores if (score.kind, score.latents) == point] for point in points}
    return {point: seeds for point, seeds in same.items() if seeds}


def _line(kind: str, latents: int, same: list[Score]) -> str:
    columns = ([score.mse for score in same], [score.rfd for score in same], [score.kl for score in same])
    cells = [_cell(values, digits) for values, digits in zip(columns, (5, 1, 0), strict=True)]
    return f"| {kind} | {latents} | {' | '.join(cells)} |"


def _lines(scores: list[Score], config: Config, name: str) -> Iterator[svg.Series]:
    """A line for each kind: the mean over seeds of one measurement."""
    for color, kind in enumerate((*COMPONENTS, *KINDS)):
        points = []
        for (own, latents), same in _grouped(scores, config).items():
            values = [value for score in same if (value := getattr(score, name)) is not None]
            if own == kind and values:
                points.append((float(latents), statistics.mean(values)))
        if points:
            x, y = zip(*points, strict=True)
            yield svg.Series(kind, x, y, color)


def _cell(values: Sequence[float | None], digits: int) -> str:
    """The mean over seeds and, where there are several, the half range."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {(max(known) - min(known)) / 2:.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{spread}"


if __name__ == "__main__":
    run(main)
