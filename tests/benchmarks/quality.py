"""Time to quality: what a training reaches by when, beside other trainers on the same images.

    python tests/benchmarks/quality.py DATA --ours 'vae --config vae_lfw_kld_0.01' --budget_sec 1800

Each system is a process, with the same number of threads. They take turns, so that all meet the same machine; a
system's clock stands while others train and while it is evaluated. It covers all that training needs: building the
network, reading and decoding for our trainer, and the principal components of ``--init pca``, which never come from a
cache. Other trainers find the images decoded in memory. After each turn the system reconstructs held-out images, from
the posterior's mean. "Seconds until" is when an evaluation first found the target.

``old`` is the network that release 0.1 trained for KLD weight 0.01. pythae (``pip install 'facegen[benchmark]'``) and
the loop of PyTorch-VAE take part with their published network and settings, which are for 64 x 64 pixels; with our KL
weight (``_kl``); and with our network and KL weight (``_net``), which start as our options say: its ``--init pca``
counts for them, too. ``--net`` gives them another one of our networks, such as one with random weights.
"""

from __future__ import annotations

import math
import platform
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from shards.base.errors import UserError
from shards.base.places import num_cores
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from time_to_quality.contest import Curve, compete, moments
from time_to_quality.output import Results, page
from time_to_quality.scores import RFD, parse_target, pca_mse
from time_to_quality.setup import Setup
from time_to_quality.systems import SYSTEMS

HERE = Path(__file__).resolve().parent
OLD = HERE / "time_to_quality" / "old_vae_lfw_kld_0.01.yaml"


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set."""
    ours: str = "vae --config vae_lfw_kld_0.01"
    """Our training: a family and its options, as for facegen/train.py."""
    old: str = f"vae --config {shlex.quote(str(OLD))}"
    """The training that ours is to improve on, in the same form."""
    net: str | None = None
    """The training whose network and KL weight other trainers take, in the same form; ours when null."""
    only: list[str] = field(default_factory=list)
    """Systems to train; all that are installed where none is named."""
    budget_sec: float = 600.0
    """Training time of each system."""
    turn_sec: float = 30.0
    """Longest turn; a step is never cut. Early turns are shorter."""
    first_turn_sec: float = 2.0
    """First turn, after the preparation."""
    target: list[str] = field(default_factory=lambda: ["0.0032", "pca-256"])
    """Held-out MSE to reach: a number, or pca-N for that of N principal components."""
    split: str = "test"
    """Split of the held-out images."""
    num_images: int | None = None
    """How many of them to use; all when null."""
    distance_every: int = 8
    """Turns between two Fréchet distances of the reconstructions, which take long; 0 measures none."""
    fid_weights: Path | None = None
    """Inception weights for FID; without them the distance is FD-EffLite0."""
    threads: int = field(default_factory=num_cores)
    """Computing threads of each system."""
    seed: int = 0
    """Seed of all systems."""
    out: Path = HERE / "results"
    """Folder for the table, the numbers and the charts."""
    name: str = "quality"
    """Name of these files."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        unknown = sorted(set(self.only) - set(SYSTEMS))
        if unknown:
            raise ValueError(f"--only does not know {', '.join(unknown)}; choose from {', '.join(SYSTEMS)}.")
        for name in ("budget_sec", "turn_sec", "first_turn_sec", "threads"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)}.")
        if self.num_images is not None and self.num_images < 2 or self.distance_every < 0:
            raise ValueError("num_images must be at least 2, and distance_every at least 0.")
        for target in self.target:
            parse_target(target)


def main() -> None:
    """Prepares, trains, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/quality.py", description=__doc__ or "", positional=["data"])
    names, notes = available(config.only)
    dataset = Dataset(config.data)
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(
            config.data.resolve(),
            Path(folder),
            config.split,
            config.num_images,
            config.threads,
            config.seed,
            config.ours,
            config.old,
            config.net or config.ours,
        )
        check_options(setup, names)
        held_out = setup.held_out()
        targets = {}
        for text in config.target:
            wanted = parse_target(text)
            targets[text] = pca_mse(wanted, dataset, held_out) if isinstance(wanted, int) else wanted
        if not all(SYSTEMS[name].is_our_trainer for name in names):
            setup.write_array()
        rfd = RFD(held_out, config.fid_weights) if config.distance_every else None
        notes += [] if rfd else ["reconstructions' Fréchet distance: not measured (--distance_every 0)"]
        conditions = describe(config, dataset, len(held_out))
        ends_sec = moments(config.budget_sec, config.first_turn_sec, config.turn_sec)
        results = None
        for until_sec, curves in compete(names, setup, ends_sec, rfd, config.distance_every):
            results = Results(conditions, targets, curves, rfd.name if rfd else "", notes)
            results.write(config.out, config.name)
            print(progress(until_sec, curves), flush=True)
    assert results is not None
    print(page(results, config.name))


def check_options(setup: Setup, names: list[str]) -> None:
    """Finds mistakes in the options of our trainings before anything is trained."""
    for name in {"ours", "old"} & set(names):
        setup.config(getattr(setup, name), name)
    if any(SYSTEMS[name].uses_ours for name in names):
        setup.our_beta_eff()


def available(only: list[str]) -> tuple[list[str], list[str]]:
    """Systems that take part, and a sentence about each package that others lack.

    Raises:
        UserError: One that was asked for cannot take part.
    """
    names = only or list(SYSTEMS)
    absent = list(dict.fromkeys(SYSTEMS[name].missing for name in names if SYSTEMS[name].missing))
    if only and absent:
        raise UserError(f"{'; '.join(absent)}.")
    return [name for name in names if not SYSTEMS[name].missing], absent


def describe(config: Config, dataset: Dataset, num_held_out: int) -> dict[str, str]:
    """The conditions under which these numbers were measured."""
    image = dataset.image
    return {
        "data": f"{dataset.manifest.name}, {image.width} pixels, {dataset.num_samples('train'):,} training images",
        "held out": f"{num_held_out:,} images of {config.split}",
        "ours": f"`{config.ours}`",
        **({"network of others": f"`{config.net}`"} if config.net else {}),
        "old": f"`{config.old.replace(str(HERE), 'tests/benchmarks')}`",
        "processor": platform.processor() or platform.machine(),
        "threads of each system, seed": f"{config.threads}, {config.seed}",
        "python, torch": f"{platform.python_version()}, {torch.__version__}",
    }


def progress(until_sec: float, curves: list[Curve]) -> str:
    """A line about where all systems are."""
    states = [f"{curve.name} {curve.points[-1].mse:.5f}" for curve in curves if curve.points]
    return f"{until_sec:7.1f} s  {'  '.join(states)}"


if __name__ == "__main__":
    run(main)
