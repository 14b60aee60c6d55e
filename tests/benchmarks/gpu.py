"""All that needs a GPU, in one command: precisions, torch.compile, DDP, every family at 64 and 128 pixels, FID.

    python tests/benchmarks/gpu.py [--only '[precision,compile,ddp,families,distance]']
    python tests/benchmarks/gpu.py --device cpu --images small      # the same cases without a GPU

Synthetic faces are packed first. Each case is a process that trains with ``facegen/train.py`` for some steps, under a
time limit. A case that fails has one sentence in the table, and the others continue. Networks have their default sizes.
Speeds are medians over the windows between log lines, without the first. Memory is the peak that a process allocated on
the GPU, or its peak resident size on a CPU. Results are written to OUT as gpu.md and gpu.json.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import yaml

from facegen.families import FAMILIES
from families import PERSONS, merged, speeds, timed
from shards.base.places import num_cores
from shards.command_line.cli import parse, run
from shards.pack import main as pack

ROOT = Path(__file__).resolve().parents[2]
SIZES = (64, 128)
GROUPS = ("precision", "compile", "ddp", "families", "distance")
COMPILED = ("vae", "dfc_vae", "dcgan", "vae_gan")
"""Families that are compiled: one network, one with a frozen network, and two players."""
NEEDED: dict[str, dict[str, Any]] = {
    "mod_vae": {"augment": {"flip": False}, "model": {"latent_size": 64, "group_size": 4, "groups": PERSONS}}
}
"""Options that a family needs besides its defaults."""


@dataclass(frozen=True)
class Scale:
    """The amount of work."""

    num_images: int
    """Faces of each size, four for each person."""
    batch_size: int
    num_steps: int
    """Steps of each training."""


SCALES = {"full": Scale(4000, 128, 200), "small": Scale(200, 8, 10)}


@dataclass
class Config:
    """Settings of the benchmark."""

    device: Literal["cuda", "cpu"] = "cuda"
    """cuda, or cpu to try the benchmark itself."""
    images: Literal["full", "small"] = "full"
    """full: batches of 128, 200 steps. small: batches of 8, 10 steps."""
    only: list[str] = field(default_factory=lambda: list(GROUPS))
    """Groups of cases; all when null."""
    limit_sec: int = 600
    """Time limit of a case, in seconds."""
    fid_weights: str = "none"
    """Inception weights for FID, as for eval.report; without them the distance is FD-EffLite0."""
    out: Path = Path("gpu_benchmark")
    """Folder for gpu.md and gpu.json."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        unknown = sorted(set(self.only) - set(GROUPS))
        if unknown:
            raise ValueError(f"--only names {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
        if self.limit_sec < 1:
            raise ValueError(f"limit_sec must be at least 1, not {self.limit_sec}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "there is no NVIDIA GPU here; --device cpu --images small tries the benchmark without one."
            )


@dataclass(frozen=True)
class Case:
    """One training."""

    group: str
    name: str
    family: str
    size: int
    precision: str
    num_processes: int = 0
    """Processes in one group; 0 is one process without a group."""
    performance: dict[str, bool] = field(default_factory=dict)
    """Options of ``facegen.training.performance``."""


@dataclass
class Result:
    """The outcome of a case; numbers are None if it failed or has none."""

    group: str
    name: str
    seconds: float
    """The whole case, with starting, warming up and saving."""
    images_per_sec: float | None = None
    data_wait_percent: float | None = None
    peak_memory_mib: float | None = None
    failure: str = ""


class CaseFailed(Exception):
    """A sentence about a failed process."""


def main() -> None:
    """Packs, trains, evaluates, prints, writes."""
    config = parse(Config, prog="tests/benchmarks/gpu.py", description=__doc__ or "")
    scale = SCALES[config.images]
    results: list[Result] = []
    config.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            people = ["--num_identities", str(scale.num_images // 4)]
            data = faces(Path(folder), size)
            pack(["synthetic", str(data), "--num", str(scale.num_images), "--size", str(size), *people])
        for number, case in enumerate(cases(config)):
            measure = distance if case.group == "distance" else train
            results.append(attempt(case, measure, Path(folder) / f"case{number}", config))
            print(row(results[-1]), flush=True)
            write(results, config)
    print(page(results, config))


def cases(config: Config) -> list[Case]:
    """The cases of the chosen groups, group by group."""
    on_gpu = config.device == "cuda"
    half, small = "bf16" if on_gpu else "no", SIZES[0]  # Few CPUs are fast in bf16.
    compiled = {"compile": True}
    every = [
        Case("precision", "float32", "vae", small, "no", performance={"tf32": False}),
        Case("precision", "float32 as TF32", "vae", small, "no"),
        Case("precision", "bf16", "vae", small, "bf16"),
        Case("precision", "fp16", "vae", small, "fp16"),
    ]
    for family in COMPILED:
        every.append(Case("compile", f"{family}, eager", family, small, half))
        every.append(Case("compile", f"{family}, compiled", family, small, half, performance=compiled))
    for num in sorted({1, torch.cuda.device_count() if on_gpu else 2}):
        every.append(Case("ddp", f"world size {num}", "vae", small, half, num))
        every.append(Case("ddp", f"world size {num}, compiled", "vae", small, half, num, compiled))
    every += [Case("families", f"{family}, {size} pixels", family, size, half) for family in FAMILIES for size in SIZES]
    every.append(Case("distance", "of samples", "vae", small, half))
    return [case for case in every if case.group in config.only]


def attempt(case: Case, measure: Callable[[Case, Path, Config], Result], folder: Path, config: Config) -> Result:
    """Runs a case; a failure is a result, too."""
    started = time.perf_counter()
    try:
        return measure(case, folder, config)
    except CaseFailed as failure:
        return Result(case.group, case.name, time.perf_counter() - started, failure=str(failure))


def train(case: Case, folder: Path, config: Config) -> Result:
    """Trains, and reads what the run logged."""
    scale, started = SCALES[config.images], time.perf_counter()
    own = {
        "global_batch_size": scale.batch_size * max(1, case.num_processes),
        # Each epoch reads and decodes, like the first one of a large data set.
        "loader": {"num_threads": min(8, num_cores()), "decoded_gb": 0.0},
        "performance": case.performance,
        # In the file, not on the command line: torchrun would take --run for an abbreviation of its own option.
        "data": str(faces(folder.parent, case.size)),
        "run": str(folder / "run"),
    }
    folder.mkdir()
    options = folder / "options.yaml"
    options.write_text(yaml.safe_dump(timed(merged(NEEDED.get(case.family, {}), own), scale.num_steps)))
    program = [*launcher(case, config), str(ROOT / "facegen" / "train.py"), case.family, "--config", str(options)]
    execute(program, config, {"ACCELERATE_MIXED_PRECISION": case.precision})
    lines = speeds(folder / "run")
    return Result(
        case.group,
        case.name,
        time.perf_counter() - started,
        images_per_sec=statistics.median(line["speed/images_per_sec"] for line in lines),
        data_wait_percent=statistics.mean(line["speed/data_wait_percent"] for line in lines),
        peak_memory_mib=lines[-1]["speed/peak_memory_mib"],
    )


def launcher(case: Case, config: Config) -> list[str]:
    """The launcher: accelerate, or torchrun for a group of one process, which accelerate does not form."""
    if case.num_processes == 0:
        file = ROOT / "jobs" / "accelerate" / ("gpu.yaml" if config.device == "cuda" else "cpu.yaml")
        accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
        return [*accelerate, "--mixed_precision", case.precision]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(case.num_processes)]
    return [*torchrun, "--master_addr", "127.0.0.1", "--master_port", str(port)]


def distance(case: Case, folder: Path, config: Config) -> Result:
    """Trains briefly, and times the report's distance of samples from as many training images."""
    train(case, folder, config)
    num_images = SCALES[config.images].num_images // 2
    command = [sys.executable, "-m", "eval.report", str(folder / "run"), "--split", "train"]
    command += ["--data", str(faces(folder.parent, case.size)), "--only", "distances:samples"]
    command += ["--num_images", str(num_images), "--fid_weights", config.fid_weights, "--out", str(folder / "report")]
    execute([*command, "--device", "cpu" if config.device == "cpu" else "auto"], config, {})
    report = json.loads((folder / "report" / "report.json").read_text())
    seconds = sum(stage["seconds"] for stage in report["stages"])
    return Result(case.group, f"{case.name}, {num_images:,} images", seconds, images_per_sec=num_images / seconds)


def execute(command: list[str], config: Config, variables: dict[str, str]) -> None:
    """Runs a program to its end.

    Raises:
        CaseFailed: It failed, or took too long; then all its processes are ended.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            process.wait(config.limit_sec)
        except subprocess.TimeoutExpired:
            raise CaseFailed(f"took longer than {config.limit_sec} s") from None
        finally:
            end(process)
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        # The launcher's own last line only says that a process failed.
        lines = [line.strip() for line in said.splitlines() if line.strip() and "CalledProcessError" not in line]
        ours = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise CaseFailed((ours or lines or [f"ended with exit code {process.returncode}"])[-1])


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a running program and all that it started, which torchrun puts into separate sessions."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid)
    for member in [*family.children(recursive=True), family]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def faces(folder: Path, size: int) -> Path:
    """The data set of a size."""
    return folder / f"faces{size}"


def row(result: Result) -> str:
    """A row of the table."""
    if result.failure:
        return (
            f"| {result.group} | {result.name} | failed: {result.failure.replace('|', '/')} ||| {result.seconds:.0f} |"
        )
    wait = "" if result.data_wait_percent is None else f"{result.data_wait_percent:.1f} %"
    memory = "" if result.peak_memory_mib is None else f"{result.peak_memory_mib:,.0f}"
    return (
        f"| {result.group} | {result.name} | {result.images_per_sec or 0:,.0f} | {wait} | {memory} "
        f"| {result.seconds:.0f} |"
    )


def conditions(config: Config) -> dict[str, str]:
    """The machine and the versions."""
    device = platform.processor() or platform.machine()
    if config.device == "cuda":
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    scale = SCALES[config.images]
    return {
        "device": device,
        "cores": str(num_cores()),
        "torch": torch.__version__,
        "trainings": f"{scale.num_steps} steps of {scale.batch_size} images for each process",
    }


def page(results: list[Result], config: Config) -> str:
    """The results as Markdown."""
    lines = ["# GPU benchmark", "", "Made by `python tests/benchmarks/gpu.py`.", ""]
    lines += [f"* {name}: {value}" for name, value in conditions(config).items()]
    lines += [
        "",
        "| group | case | images/s | data wait | peak MiB | seconds in all |",
        "|---|---|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(row(result) for result in results), ""])


def write(results: list[Result], config: Config) -> None:
    """Replaces both files."""
    (config.out / "gpu.md").write_text(page(results, config))
    values = {"conditions": conditions(config), "cases": [asdict(result) for result in results]}
    (config.out / "gpu.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
