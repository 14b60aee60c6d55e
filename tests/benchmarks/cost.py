"""What a training step costs, of the network of old and of ours: speed, share of the matrix peak, and where time goes.

    python tests/benchmarks/cost.py DATA --ours 'vae --config vae_lfw_kld_0.01'

A step reads a batch, augments it, and does what the options ask of any loop (``PlainLoop`` in ``bare_loop.py``):
forward, backward, gradient norm, optimizer, moving average. Blocks of steps of each network alternate with large
float32 matrix products, whose best rate is the peak of that moment, as a machine's speed drifts. FLOPs are torch's
count for convolutions and matrix products, a multiply-add as two. The profile assigns the CPU time of each operator's
own work to a group; a linear shortcut on patches is a convolution.
"""

from __future__ import annotations

import platform
import shlex
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import profiler

from bare_loop import PlainLoop
from eval.metrics.cost import count_flops
from facegen.families.base import TrainBatch
from facegen.training.trainer import Trainer
from quality import OLD
from shards.base.files import write_json
from shards.base.places import num_cores
from shards.command_line.cli import parse, run
from shards.loading.batch import Batch
from time_to_quality.setup import Setup

DATA, OPTIMIZER = "data and augmentation", "optimizer"
OPERATORS = {
    "convolution": ("convolution", "conv2d", "conv_transpose2d"),
    "linear": ("addmm", "aten::mm", "bmm", "matmul", "linear"),
    "norm": ("group_norm", "batch_norm", "layer_norm"),
    "activation": ("leaky_relu", "gelu", "tanh", "sigmoid"),
    OPTIMIZER: ("_foreach_", "_fused_adam", "vector_norm", "Optimizer."),
}
"""Groups of operators, and what their names contain; the first that fits counts."""
OTHER = "other"
GROUPS = (*OPERATORS, DATA, OTHER)


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set."""
    ours: str = "vae --config vae_lfw_kld_0.01"
    """Our training: a family and its options, as for facegen/train.py."""
    old: str = f"vae --config {shlex.quote(str(OLD))}"
    """The training to compare it with, in the same form."""
    blocks: int = 10
    """Blocks of steps of each."""
    block_sec: float = 2.0
    """Length of a block; at least one step."""
    profiled_steps: int = 5
    """Steps of the profile."""
    matrix_size: int = 2048
    """Rows and columns of the matrices."""
    threads: int = field(default_factory=num_cores)
    """Computing threads."""
    out: Path = Path(__file__).resolve().parent / "results"
    """Folder for cost.md and cost.json."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("blocks", "block_sec", "profiled_steps", "matrix_size", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Cost:
    """The measurements of one network."""

    name: str
    parameters: int
    batch_size: int
    images_per_sec: float
    mflops_per_image: float
    """Millions of floating point operations of a step, per image."""
    gflops_per_sec: float
    peak_percent: float
    """Share of the matrix peak: the median over blocks."""
    group_percent: dict[str, float]
    """Share of a step's time by group of operators."""


class Step(PlainLoop):
    """One whole training step, batch by batch of the data set."""

    def __init__(self, trainer: Trainer) -> None:
        """Takes the trainer's networks and its loader."""
        self._batches: Iterator[Batch] = iter(trainer.loader)
        super().__init__(trainer, next(self._batches))

    def _augmented(self) -> TrainBatch:
        with profiler.record_function(DATA):
            self.batch = next(self._batches)
            return super()._augmented()


def main() -> None:
    """Measures, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/cost.py", description=__doc__ or "", positional=["data"])
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        own = (config.threads, 0, config.ours, config.old, config.ours)
        setup = Setup(config.data.resolve(), Path(folder), "test", None, *own)
        steps = {name: Step(Trainer(setup.config(getattr(config, name), name))) for name in ("old", "ours")}
        costs, peak = measure(steps, config)
    conditions = {
        "old": f"`{config.old.replace(str(OLD.parents[1]), 'tests/benchmarks')}`",
        "ours": f"`{config.ours}`",
        "matrix peak": f"{peak / 1e9:,.0f} GFLOP/s in products of {config.matrix_size} x {config.matrix_size}, float32",
        "processor, threads": f"{platform.processor() or platform.machine()}, {config.threads}",
        "python, torch": f"{platform.python_version()}, {torch.__version__}",
    }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "cost.md").write_text(page(costs, conditions))
    content = {"conditions": conditions, "peak_flops_per_sec": peak, "costs": [asdict(cost) for cost in costs]}
    write_json(config.out / "cost.json", content, indent=1)
    print(page(costs, conditions))


def measure(steps: dict[str, Step], config: Config) -> tuple[list[Cost], float]:
    """Measures all networks in turns; returns also the median of the matrix peaks, in FLOPs a second."""
    flops = {name: count_step(step) for name, step in steps.items()}
    peaks, rates = [], {name: [] for name in steps}
    for _ in range(config.blocks):
        peaks.append(matrix_peak(config.matrix_size))
        for name, step in steps.items():
            rates[name].append(steps_per_sec(step, config.block_sec))
    costs = []
    for name, step in steps.items():
        batch_size = step.config.global_batch_size
        rate = statistics.median(rates[name])
        shares = [own * flops[name] / peak for own, peak in zip(rates[name], peaks, strict=True)]
        costs.append(
            Cost(
                name,
                sum(parameter.numel() for parameter in step.family.parameters()),
                batch_size,
                rate * batch_size,
                flops[name] / batch_size / 1e6,
                rate * flops[name] / 1e9,
                100 * statistics.median(shares),
                profile(step, config.profiled_steps),
            )
        )
    return costs, statistics.median(peaks)


def count_step(step: Step) -> int:
    """Floating point operations of a step; the first step, which also warms up."""

    def call() -> torch.Tensor:
        step.step()
        return torch.empty(0)

    return count_flops(call)


def matrix_peak(size: int, num_repeats: int = 5) -> float:
    """FLOPs a second of the fastest of a few products of square float32 matrices."""
    first, second = torch.randn(2, size, size)
    seconds = []
    for _ in range(num_repeats):
        started_sec = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - started_sec)
    return 2 * size**3 / min(seconds)


def steps_per_sec(step: Step, block_sec: float) -> float:
    """Rate of one block, after a step that finds the other network's data in the caches."""
    step.step()
    started_sec, num_steps = time.perf_counter(), 0
    while (passed_sec := time.perf_counter() - started_sec) < block_sec or not num_steps:
        step.step()
        num_steps += 1
    return num_steps / passed_sec


def profile(step: Step, num_steps: int) -> dict[str, float]:
    """Percent of the time of some steps that each group's operators took themselves."""
    step.step()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as trace:
        for _ in range(num_steps):
            step.step()
    events = trace.events() or []
    thread = next(event.thread for event in events if event.name == DATA)  # Not those of the loader.
    times = dict.fromkeys(GROUPS, 0.0)
    for event in events:
        if event.thread == thread:
            times[group_of(event)] += event.self_cpu_time_total
    total = sum(times.values())
    return {name: 100 * own / total for name, own in times.items()}


def group_of(event: Any) -> str:
    """The group of an operator: that of the span around it, or that of its name."""
    names = [event.name]
    parent = event.cpu_parent
    while parent is not None:
        names.append(parent.name)
        parent = parent.cpu_parent
    if DATA in names:
        return DATA
    if any(name.startswith("Optimizer.") for name in names):
        return OPTIMIZER
    for group, parts in OPERATORS.items():
        if any(part in name for name in names for part in parts):
            return group
    return OTHER


def page(costs: list[Cost], conditions: dict[str, str]) -> str:
    """The results as Markdown."""
    lines = ["# Cost of a training step", "", "Made by `python tests/benchmarks/cost.py`.", ""]
    lines += [f"* {name}: {value}" for name, value in conditions.items()]
    header = ["network", "parameters", "batch", "images/s", "MFLOPs an image", "GFLOP/s", "of the matrix peak"]
    lines += ["", f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for cost in costs:
        lines.append(
            f"| {cost.name} | {cost.parameters:,} | {cost.batch_size} | {cost.images_per_sec:,.0f} "
            f"| {cost.mflops_per_image:,.0f} | {cost.gflops_per_sec:,.1f} | {cost.peak_percent:.0f} % |"
        )
    lines += ["", f"| time in | {' | '.join(cost.name for cost in costs)} |", "|---" + "|---:" * len(costs) + "|"]
    for group in GROUPS:
        lines.append(f"| {group} | {' | '.join(f'{cost.group_percent[group]:.1f} %' for cost in costs)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    run(main)
