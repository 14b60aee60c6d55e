"""Launches real trainings through ``accelerate launch``, and reads what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from facegen.runs.checkpoint import newest_complete

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "facegen" / "train.py"
_SCRIPTS = ROOT / "tests" / "integration" / "processes"
RECORD = _SCRIPTS / "record_run.py"
DISTURBED = _SCRIPTS / "disturbed_run.py"

# No batch norm: its statistics depend on how a batch is split.
TINY = ["--model.network.widths", "[8,16]", "--model.network.norm", "none", "--model.latent_size", "8"]


def launch(num_processes: int, script: Path, *arguments: str | Path | float) -> list[str]:
    """The command that starts a script in so many processes on this machine's CPUs."""
    file = ROOT / "jobs" / "accelerate" / ("cpu.yaml" if num_processes == 1 else "cpu_processes.yaml")
    program = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [*program, "--num_processes", str(num_processes), str(script), *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread in every process: the same sums in the same order, whatever the launcher sets; Ray reports nothing."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


def run(command: list[str], timeout_sec: float = 300, **variables: str) -> str:
    """Runs a command that must succeed; returns what it prints."""
    done = subprocess.run(command, env=environment() | variables, capture_output=True, text=True, timeout=timeout_sec)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for_line(process: subprocess.Popen[str], text: str) -> float:
    """Reads a process's output up to a line with the text; returns when it came, on the monotonic clock."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return time.monotonic()
    raise AssertionError(f"ended without '{text}': {process.stderr.read() if process.stderr else ''}")


def json_lines(path: Path) -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(path: Path, rank: int) -> list[dict]:
    """What ``record_run.py`` wrote on one rank."""
    return json_lines(Path(f"{path}.{rank}"))


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """Weights of a run's newest checkpoint."""
    newest = newest_complete(run_dir / "checkpoints")
    assert newest is not None
    return load_file(newest / "weights.safetensors")


def assert_bitwise_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Checks that two states have the same names and the same bits."""
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
