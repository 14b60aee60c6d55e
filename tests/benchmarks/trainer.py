"""What the trainer costs beside a bare loop of the same network, and how long it waits for data, for every family.

    python tests/benchmarks/trainer.py [--data DATA] [--only '[vae,dcgan]']

Each member of ``families.py`` starts from its preset, with the preset's batch size, on one thread of computation (the
loader's threads are the trainer's own). First the trainer runs alone: images per second, and the share of a step in
which it waits for data. Then it takes turns with a bare loop, a block of steps each: the same network, losses, noise
and optimizer on one augmented batch that stays in memory, and nothing else. The trainer's blocks are whole: reading,
augmentation, gradient norms, checks, moving average, schedules, averages and log lines. The overhead is how much longer
they take than the bare blocks beside them, the median over pairs of blocks with its 95 % interval (of a binomial
distribution's order statistics), on the clock and in CPU time of the training thread, which other programs change less.
Blocks are short, as a machine's speed drifts within seconds. In the mean are, besides, what happens once an epoch (the
latents of 32 faces) and whatever else the machine does.
"""

from __future__ import annotations

import copy
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from facegen.config import TrainConfig, parse_args
from facegen.families.base import TrainBatch
from facegen.pixels import to_float
from facegen.randomness import SlotRandom
from facegen.trainer import Trainer
from families import MEMBERS, Member, check_names, configuration, speeds, timed
from shards import pack
from shards.cli import parse, run
from shards.dataset import Dataset
from shards.loader import Batch

_WARMUP_BLOCKS = 5


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path | None = None
    """A packed data set; synthetic faces are packed when not given."""
    only: list[str] | None = None
    """Members to measure; all when not given."""
    size: int = 64
    """Side of the synthetic faces."""
    num_images: int = 4000
    """Number of synthetic faces."""
    steps_alone: int = 120
    """Steps in which the trainer runs alone; the first fifth warms up."""
    blocks: int = 60
    """Pairs of blocks in which it takes turns with the bare loop; five more warm up."""
    steps_per_block: int = 2
    """Steps of a block."""
    out: Path = Path(__file__).parent / "results"
    """Where trainer.md and trainer.json are written."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        check_names(self.only)
        for name, least in (("steps_alone", 5), ("blocks", 8), ("steps_per_block", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Cost:
    """What was measured of one member."""

    name: str
    batch_size: int
    parameters: int
    images_per_sec: float
    data_wait_percent: float
    bare_step_ms: float
    overhead_percent: float
    """Median over pairs of blocks."""
    overhead_low: float
    overhead_high: float
    """The median's 95 % interval."""
    mean_overhead_percent: float
    """Of all blocks together."""
    cpu_overhead_percent: float
    """As ``overhead_percent``, in CPU time of the training thread."""


class BareLoop:
    """Forward, backward and optimizer on one batch: the least that training this network can take."""

    def __init__(self, trainer: Trainer, batch: Batch) -> None:
        """Copies the trainer's networks, so that both loops start from the same weights."""
        config = trainer.config
        self.family = copy.deepcopy(trainer.family).train()
        random = SlotRandom(config.seed, trainer.images_seen, slice(0, len(batch.images)), len(batch.images))
        self.batch = TrainBatch(to_float(batch.images), batch.labels, random, trainer.images_seen)
        optimizer_class = type(trainer.state.updaters[self.family.turns[0]].optimizer)
        self.networks: Mapping[str, Any] = dict(self.family.networks.items())
        # So small a rate that always the same batch does not lead the weights to where numbers are slow.
        self.optimizers = {
            name: optimizer_class(network.parameters(), lr=1e-6, betas=config.optim.betas, fused=True)
            for name, network in self.networks.items()
        }

    def step(self) -> None:
        """One step of every network."""
        for turn in self.family.turns:
            for name, network in self.networks.items():
                network.requires_grad_(name == turn)
            self.family.losses(turn, self.networks, self.batch).loss.backward()
            self.optimizers[turn].step()
            self.optimizers[turn].zero_grad(set_to_none=True)


class Seconds(NamedTuple):
    """How long something took."""

    wall: float
    cpu: float
    """Of this thread."""


class Clock:
    """Counts from when it was made."""

    def __init__(self) -> None:
        """Starts."""
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def read(self) -> Seconds:
        """What has passed."""
        return Seconds(time.perf_counter() - self._wall, time.thread_time() - self._cpu)


class Turns:
    """Called after each step of the trainer: measures its blocks of steps, and lets the bare loop take as many."""

    def __init__(self, steps_per_block: int) -> None:
        """Starts before the trainer's first step."""
        self.steps_per_block = steps_per_block
        self.pairs: list[tuple[Seconds, Seconds]] = []
        """Of the trainer and the bare loop."""
        self._bare: BareLoop | None = None
        self._steps = 0
        self._clock = Clock()

    def __call__(self, trainer: Trainer, batch: Batch, terms: dict[str, Tensor]) -> None:
        """Counts the step; at the end of a block, the bare loop's turn."""
        self._steps += 1
        if self._steps < self.steps_per_block:
            return
        ours = self._clock.read()
        self._bare = self._bare or BareLoop(trainer, batch)
        clock = Clock()
        for _ in range(self.steps_per_block):
            self._bare.step()
        self.pairs.append((ours, clock.read()))
        self._steps, self._clock = 0, Clock()


def main() -> None:
    """Measures, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/trainer.py", description=__doc__ or "")
    torch.set_num_threads(1)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        data = config.data or pack_faces(Path(folder) / "data", config)
        for name in config.only or MEMBERS:
            costs.append(measure(name, data, Path(folder), config))
            print(row(costs[-1]), flush=True)
        conditions = {
            "data": Dataset(data).manifest.name + f", {Dataset(data).image.width} pixels, "
            f"{Dataset(data).num_samples('train'):,} training images",
            "processor": platform.processor() or platform.machine(),
            "python, torch": f"{platform.python_version()}, {torch.__version__}",
        }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "trainer.md").write_text(page(costs, conditions))
    values = {"conditions": conditions, "costs": [asdict(cost) for cost in costs]}
    (config.out / "trainer.json").write_text(json.dumps(values, indent=1) + "\n")
    print(page(costs, conditions))


def pack_faces(out: Path, config: Config) -> Path:
    """Packs synthetic faces, eight of a person."""
    people = ["--num_identities", str(config.num_images // 8)]
    pack.main(["synthetic", str(out), "--num", str(config.num_images), "--size", str(config.size), *people])
    return out


def measure(name: str, data: Path, folder: Path, config: Config) -> Cost:
    """Trains a member twice: alone, and in turns with the bare loop."""
    alone = training(MEMBERS[name], data, folder / f"{name}_alone", config.steps_alone)
    Trainer(alone).fit()
    windows = speeds(Path(alone.run))

    num_steps = (config.blocks + _WARMUP_BLOCKS) * config.steps_per_block
    trainer = Trainer(training(MEMBERS[name], data, folder / f"{name}_in_turns", num_steps))
    turns = Turns(config.steps_per_block)
    trainer.fit(turns)
    pairs = turns.pairs[_WARMUP_BLOCKS:]
    low, median, high = median_interval([100 * (ours.wall / bare.wall - 1) for ours, bare in pairs])
    all_ours, all_bare = sum(ours.wall for ours, _ in pairs), sum(bare.wall for _, bare in pairs)
    return Cost(
        name=name,
        batch_size=alone.global_batch_size,
        parameters=sum(parameter.numel() for parameter in trainer.family.parameters()),
        images_per_sec=statistics.median(line["speed/images_per_sec"] for line in windows),
        data_wait_percent=statistics.mean(line["speed/data_wait_percent"] for line in windows),
        bare_step_ms=1000 * statistics.median(bare.wall for _, bare in pairs) / config.steps_per_block,
        overhead_percent=median,
        overhead_low=low,
        overhead_high=high,
        mean_overhead_percent=100 * (all_ours / all_bare - 1),
        cpu_overhead_percent=statistics.median(100 * (ours.cpu / bare.cpu - 1) for ours, bare in pairs),
    )


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median between the ends of its 95 % interval: how many values lie below it is binomial, about normal."""
    ordered, reach = sorted(values), 1.96 * math.sqrt(len(values)) / 2
    first, last = math.floor(len(values) / 2 - reach) - 1, math.ceil(len(values) / 2 + reach)
    return ordered[max(first, 0)], statistics.median(ordered), ordered[min(last, len(values) - 1)]


def training(member: Member, data: Path, out: Path, num_steps: int) -> TrainConfig:
    """The member's own configuration, but for its length."""
    out.mkdir(parents=True)
    (out / "options.yaml").write_text(yaml.safe_dump(timed(configuration(member), num_steps), sort_keys=False))
    arguments = ["--config", str(out / "options.yaml"), "--data", str(data), "--run", str(out / "run")]
    return parse_args([member.family, *arguments])


def row(cost: Cost) -> str:
    """A line of the table."""
    return (
        f"| {cost.name} | {cost.batch_size} | {cost.parameters:,} | {cost.images_per_sec:,.0f} "
        f"| {cost.data_wait_percent:.2f} % | {cost.bare_step_ms:.1f} | {cost.overhead_percent:+.1f} % "
        f"({cost.overhead_low:+.1f} to {cost.overhead_high:+.1f}) | {cost.cpu_overhead_percent:+.1f} % "
        f"| {cost.mean_overhead_percent:+.1f} % |"
    )


def page(costs: list[Cost], conditions: dict[str, str]) -> str:
    """The results as Markdown."""
    lines = ["# The trainer beside a bare loop, on one thread", "", "Made by `python tests/benchmarks/trainer.py`.", ""]
    lines += [f"* {name}: {value}" for name, value in conditions.items()]
    names = ["member", "batch", "parameters", "images/s", "data wait", "bare step, ms"]
    names += ["overhead (95 % interval)", "in CPU time", "mean"]
    lines += ["", f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|", *(row(cost) for cost in costs)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    run(main)
