"""Weak scaling over processes on one machine: the images per second of two processes against those of one.

    python tests/benchmarks/scaling.py [--data DATA] [--only '[vae]']

Each process computes on one thread with the same batch size. A round measures one process alone, several in one group
(gloo), as many independent ones, and one and several processes of a bare loop (bare_loop.py) under DDP. The efficiency
is the images per second of the group over those of one process times their number. That of independent processes is the
most that the machine allows, since they share memory and caches; that of the bare loop includes waiting for each other
and exchanging gradients.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from families import MEMBERS, check_names, configuration, speeds, timed
from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from shards.pack import main as pack

ROOT = Path(__file__).resolve().parents[2]
_ACCELERATE = ROOT / "jobs" / "accelerate"
_TRAINER = ROOT / "facegen" / "train.py"
_BARE_LOOP = Path(__file__).parent / "bare_loop.py"


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path | None = None
    """A packed data set; when null, synthetic faces of 64 pixels are packed."""
    only: list[str] | None = None
    """Members of families.py to measure; the vae when null."""
    num_processes: int = 2
    """Number of processes to compare with one."""
    batch_sizes: list[int] = field(default_factory=lambda: [16, 64, 128])
    """Batch size of each process; exchanging gradients costs the same for any."""
    images: int = 2560
    """Images of each process in each training; the first fifth warms up."""
    rounds: int = 3
    """Number of rounds; medians are reported."""
    out: Path = Path(__file__).parent / "results"
    """Folder for scaling.md and scaling.json."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        check_names(self.only)
        for name, least in (("num_processes", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not self.batch_sizes or min(self.batch_sizes) < 1 or max(self.batch_sizes) * 10 > self.images:
            raise ValueError(f"images must be at least ten times each of batch_sizes, not {self.images}.")


@dataclass(frozen=True)
class Scaling:
    """Images per second of one member, medians over the rounds."""

    name: str
    num_processes: int
    batch_size: int
    """Of each process."""
    alone: float
    group: float
    independent: float
    """Of all of them together."""
    bare_alone: float
    bare_group: float

    @property
    def efficiency(self) -> float:
        """Efficiency of the group, 0 to 1."""
        return self.group / (self.num_processes * self.alone)

    @property
    def machine(self) -> float:
        """Efficiency of independent processes: the most that the machine allows."""
        return self.independent / (self.num_processes * self.alone)

    @property
    def bare(self) -> float:
        """Efficiency of the bare loop under DDP."""
        return self.bare_group / (self.num_processes * self.bare_alone)


def main() -> None:
    """Measures, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/scaling.py", description=__doc__ or "")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = config.data or Path(folder) / "data"
        if config.data is None:
            pack(["synthetic", str(data), "--num", "4000", "--size", "64", "--num_identities", "500"])
        for name in config.only or ["vae"]:
            for batch_size in config.batch_sizes:
                results.append(measure(name, batch_size, data, Path(folder), config))
                print(row(results[-1]), flush=True)
    config.out.mkdir(parents=True, exist_ok=True)
    lines = ["# Several processes on one machine", "", "Made by `python tests/benchmarks/scaling.py`.", ""]
    lines += [f"* processor: {platform.processor() or platform.machine()}, {os.cpu_count()} cores", ""]
    lines += [
        "| member | processes | batch of each | images/s: one | group | independent | bare: one | group "
        "| efficiency | of the independent | of the bare loop |"
    ]
    lines += ["|---" + "|---:" * 10 + "|", *(row(result) for result in results), ""]
    (config.out / "scaling.md").write_text("\n".join(lines))
    values = [
        asdict(result) | {"efficiency": result.efficiency, "machine": result.machine, "bare": result.bare}
        for result in results
    ]
    (config.out / "scaling.json").write_text(json.dumps(values, indent=1) + "\n")
    print("\n".join(lines))


def measure(name: str, batch_size: int, data: Path, folder: Path, config: Config) -> Scaling:
    """All rounds of one member at one batch size."""
    num, steps = config.num_processes, config.images // batch_size
    alone, group, independent, bare_alone, bare_group = [], [], [], [], []
    for number in range(config.rounds):
        runs = folder / f"{name}_{batch_size}_{number}"
        alone += train(_TRAINER, name, data, [runs / "alone"], 1, batch_size, steps)
        group += train(_TRAINER, name, data, [runs / "group"], num, num * batch_size, steps)
        each = train(_TRAINER, name, data, [runs / f"independent_{rank}" for rank in range(num)], 1, batch_size, steps)
        independent.append(sum(each))
        bare_alone += train(_BARE_LOOP, name, data, [runs / "bare_alone"], 1, batch_size, steps)
        bare_group += train(_BARE_LOOP, name, data, [runs / "bare_group"], num, num * batch_size, steps)
    medians = (statistics.median(speeds) for speeds in (alone, group, independent, bare_alone, bare_group))
    return Scaling(name, num, batch_size, *medians)


def train(
    program: Path, name: str, data: Path, runs: list[Path], num_processes: int, global_batch_size: int, num_steps: int
) -> list[float]:
    """Trains at the same time in every directory of ``runs``.

    Returns:
        Images per second of each run.
    """
    options = timed(configuration(MEMBERS[name]) | {"global_batch_size": global_batch_size}, num_steps)
    launcher = _ACCELERATE / ("cpu.yaml" if num_processes == 1 else "cpu_processes.yaml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = []
    for path in runs:
        path.mkdir(parents=True)
        (path / "options.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launcher)]
        command += ["--num_processes", str(num_processes), str(program), MEMBERS[name].family]
        command += ["--config", str(path / "options.yaml"), "--data", str(data.resolve()), "--run", str(path / "run")]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    if any([process.wait() for process in processes]):
        raise UserError(f"{name} could not be trained; its own message stands above.")
    return [statistics.median(line["speed/images_per_sec"] for line in speeds(path / "run")) for path in runs]


def row(result: Scaling) -> str:
    """A line of the table."""
    return (
        f"| {result.name} | {result.num_processes} | {result.batch_size} | {result.alone:,.0f} | {result.group:,.0f} "
        f"| {result.independent:,.0f} | {result.bare_alone:,.0f} | {result.bare_group:,.0f} | {result.efficiency:.3f} "
        f"| {result.machine:.3f} | {result.bare:.3f} |"
    )


if __name__ == "__main__":
    run(main)
