"""The trainer's overhead over a bare loop of the same network, and its wait for data, for every family.

    python tests/benchmarks/trainer.py [--data DATA] [--only '[vae,dcgan]']
    python tests/benchmarks/trainer.py --data DATA --only '[flow]' --autoencoder RUN

Each member of ``families.py`` uses its preset and the preset's batch size, with one computing thread (the loader's
threads are the trainer's own). First the trainer runs alone: images per second, and the fraction of a step in which it
waits for data. Then it alternates with two other loops, a block of steps each. The bare loop runs the same network,
losses, noise and optimizer on one batch in memory, and nothing else. The plain loop also does what the preset asks of
any loop: it augments the batch, measures or clips the gradient, and updates the moving average of the weights. The
trainer does all of that, plus reading, checks, schedules, averages and log lines. The overhead is the extra time of its
blocks over those beside them: the median over blocks with a 95 % interval from order statistics, in wall time and in
CPU time of the training thread, which other programs disturb less. Blocks are short because a machine's speed drifts
within seconds.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from bare_loop import BareLoop, PlainLoop
from facegen.config import parse_args
from facegen.options import TrainConfig
from facegen.training.trainer import Trainer
from families import MEMBERS, OF_IMAGES, Member, check_names, configuration, merged, speeds, timed
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.pack import main as pack

_WARMUP_BLOCKS = 10


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path | None = None
    """A packed data set; when null, synthetic faces are packed."""
    only: list[str] | None = None
    """Members to measure; all that learn from images when null."""
    autoencoder: Path | None = None
    """The run whose latents the member ``flow`` learns; then ``data`` is its data set."""
    size: int = 64
    """Side of the synthetic faces."""
    num_images: int = 2000
    """Number of synthetic faces."""
    steps_alone: int = 120
    """Steps of the trainer alone; the first fifth warms up."""
    blocks: int = 60
    """Blocks of each loop, after ten that warm up."""
    block_sec: float = 0.1
    """Steps of a block; the first one finds the other loops' data in the caches."""
    global_batch_size: int | None = None
    """Batch size; the preset's when null. A fixed cost of each step weighs most in small batches."""
    decoded_gb: float = 1.0
    """The trainer's ``--loader.decoded_gb``; 0 decodes the images again in every epoch."""
    out: Path = Path(__file__).parent / "results"
    """Folder for trainer.md and trainer.json."""
    name: str = "trainer"
    """Name of these two files."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        check_names(self.only, OF_IMAGES if self.autoencoder is None else MEMBERS)
        for name, least in (("steps_alone", 5), ("blocks", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.block_sec <= 0:
            raise ValueError(f"block_sec must be positive, not {self.block_sec}.")


class Overhead(NamedTuple):
    """Extra time of the trainer over another loop, in percent."""

    median: float
    """Over the blocks."""
    low: float
    high: float
    """The median's 95 % interval."""
    cpu: float
    """The median in CPU time of the training thread."""


@dataclass(frozen=True)
class Cost:
    """The measurements of one member."""

    name: str
    batch_size: int
    parameters: int
    images_per_sec: float
    data_wait_percent: float
    bare_step_ms: float
    bare: Overhead
    plain: Overhead


class Seconds(NamedTuple):
    """A duration."""

    wall: float
    cpu: float
    """CPU time of this thread."""


class Clock:
    """Measures the time since it was made."""

    def __init__(self) -> None:
        """Starts."""
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def read(self) -> Seconds:
        """Time since the start."""
        return Seconds(time.perf_counter() - self._wall, time.thread_time() - self._cpu)


class Turns:
    """Called after each step of the trainer: measures its blocks, and runs a block of each other loop after each."""

    def __init__(self, steps_per_block: int, images_before: int) -> None:
        """Starts before the trainer's first step; measures only after ``images_before`` images."""
        self.steps_per_block = steps_per_block
        self.images_before = images_before
        self.blocks: list[tuple[Seconds, Seconds, Seconds]] = []
        """Times of the trainer, the bare loop and the plain loop."""
        self._loops: list[BareLoop] = []
        self._steps = 0
        self._clock = Clock()

    def __call__(self, trainer: Trainer, batch: Batch, terms: dict[str, Tensor]) -> None:
        """Counts the step; at the end of a block, runs the other loops."""
        if trainer.images_seen <= self.images_before:
            self._clock = Clock()
            return
        self._steps += 1
        if self._steps < self.steps_per_block:
            return
        ours = self._clock.read()
        self._loops = self._loops or [BareLoop(trainer, batch), PlainLoop(trainer, batch)]
        bare, plain = (self._block(loop) for loop in self._loops)
        self.blocks.append((ours, bare, plain))
        self._steps, self._clock = 0, Clock()

    def _block(self, loop: BareLoop) -> Seconds:
        clock = Clock()
        for _ in range(self.steps_per_block):
            loop.step()
        return clock.read()


def main() -> None:
    """Measures, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/trainer.py", description=__doc__ or "")
    torch.set_num_threads(1)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        data = config.data or pack_faces(Path(folder) / "data", config)
        for name in config.only or OF_IMAGES:
            costs.append(measure(name, data, Path(folder), config))
            print(row(costs[-1]), flush=True)
        conditions = {
            "data": Dataset(data).manifest.name + f", {Dataset(data).image.width} pixels, "
            f"{Dataset(data).num_samples('train'):,} training images",
            "processor": platform.processor() or platform.machine(),
            "python, torch": f"{platform.python_version()}, {torch.__version__}",
        }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / f"{config.name}.md").write_text(page(costs, conditions))
    values = {"conditions": conditions, "costs": [asdict(cost) for cost in costs]}
    (config.out / f"{config.name}.json").write_text(json.dumps(values, indent=1) + "\n")
    print(page(costs, conditions))


def pack_faces(out: Path, config: Config) -> Path:
    """Packs synthetic faces, eight for each person."""
    people = ["--num_identities", str(config.num_images // 8)]
    pack(["synthetic", str(out), "--num", str(config.num_images), "--size", str(config.size), *people])
    return out


def measure(name: str, data: Path, folder: Path, config: Config) -> Cost:
    """Trains a member twice: alone, and alternating with the other loops."""
    alone = training(MEMBERS[name], data, folder / f"{name}_alone", config.steps_alone, config)
    Trainer(alone).fit()
    windows = speeds(Path(alone.run))
    images_per_sec = statistics.median(line["speed/images_per_sec"] for line in windows)

    steps_per_block = max(1, round(config.block_sec * images_per_sec / alone.global_batch_size))
    # The first epoch, which decodes the images, is not measured.
    epoch_steps = -(-Dataset(data).num_samples("train") // alone.global_batch_size) if config.decoded_gb else 0
    num_steps = epoch_steps + (config.blocks + _WARMUP_BLOCKS) * steps_per_block
    trainer = Trainer(training(MEMBERS[name], data, folder / f"{name}_in_turns", num_steps, config))
    turns = Turns(steps_per_block, epoch_steps * alone.global_batch_size)
    trainer.fit(turns)
    ours, bare, plain = zip(*turns.blocks[_WARMUP_BLOCKS:], strict=True)
    return Cost(
        name=name,
        batch_size=alone.global_batch_size,
        parameters=sum(parameter.numel() for parameter in trainer.family.parameters()),
        images_per_sec=images_per_sec,
        data_wait_percent=statistics.mean(line["speed/data_wait_percent"] for line in windows),
        bare_step_ms=1000 * statistics.median(block.wall for block in bare) / steps_per_block,
        bare=overhead(ours, bare),
        plain=overhead(ours, plain),
    )


def overhead(ours: Sequence[Seconds], others: Sequence[Seconds]) -> Overhead:
    """Overhead of the trainer's blocks over those of another loop beside them."""
    pairs = list(zip(ours, others, strict=True))
    low, median, high = median_interval([100 * (own.wall / other.wall - 1) for own, other in pairs])
    return Overhead(median, low, high, statistics.median(100 * (own.cpu / other.cpu - 1) for own, other in pairs))


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median with its 95 % interval: the number of values below it is binomial, about normal."""
    ordered, reach = sorted(values), 1.96 * math.sqrt(len(values)) / 2
    first, last = math.floor(len(values) / 2 - reach) - 1, math.ceil(len(values) / 2 + reach)
    return ordered[max(first, 0)], statistics.median(ordered), ordered[min(last, len(values) - 1)]


def training(member: Member, data: Path, out: Path, num_steps: int, config: Config) -> TrainConfig:
    """The member's own configuration, except its length, its loader, and its batch size if one is given."""
    options = configuration(member) | {"loader": {"decoded_gb": config.decoded_gb}}
    options |= {"global_batch_size": config.global_batch_size} if config.global_batch_size else {}
    if member.autoencoder:
        options = merged(options, {"model": {"autoencoder": str(config.autoencoder)}})
    out.mkdir(parents=True)
    (out / "options.yaml").write_text(yaml.safe_dump(timed(options, num_steps), sort_keys=False))
    arguments = ["--config", str(out / "options.yaml"), "--data", str(data), "--run", str(out / "run")]
    return parse_args([member.family, *arguments])


def row(cost: Cost) -> str:
    """A row of the table."""
    overheads = " | ".join(
        f"{over.median:+.1f} % ({over.low:+.1f} to {over.high:+.1f}) | {over.cpu:+.1f} %"
        for over in (cost.bare, cost.plain)
    )
    return (
        f"| {cost.name} | {cost.batch_size} | {cost.parameters:,} | {cost.images_per_sec:,.0f} "
        f"| {cost.data_wait_percent:.2f} % | {cost.bare_step_ms:.1f} | {overheads} |"
    )


def page(costs: list[Cost], conditions: dict[str, str]) -> str:
    """The results as Markdown."""
    lines = ["# The trainer beside other loops, on one thread", "", "Made by `python tests/benchmarks/trainer.py`.", ""]
    lines += [f"* {name}: {value}" for name, value in conditions.items()]
    lines += [
        "* bare loop: forward, backward, optimizer on one batch; plain loop: with the preset's augmentation, gradient "
        "norm and moving average"
    ]
    names = ["member", "batch", "parameters", "images/s", "data wait", "bare step, ms"]
    names += ["over the bare loop (95 % interval)", "in CPU time", "over the plain loop (95 % interval)", "in CPU time"]
    lines += ["", f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|", *(row(cost) for cost in costs)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    run(main)
