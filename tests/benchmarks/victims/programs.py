"""Programs that end: a packing, a report, a sweep with its trials, and uploads of a run to an object store.

A life begins with the command and ends at a random moment of the time that an undisturbed one takes. After each kill
the victim's own check holds; the same command resumes, and when it ends, its result must be the undisturbed one's.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from sweeps import command as sweep_command
from sweeps import write_space
from tests.benchmarks.victims.outcome import Kill, NotSurvivedError, Progress, Survival
from tuning.ledger import read_ledger

ROOT = Path(__file__).resolve().parents[3]
KILLS = ("SIGKILL to all", "SIGKILL to the command", "SIGKILL to one process", "SIGTERM to the command")
END_SEC = 90.0
"""Longest time from a kill to the end of all processes; what is left of Ray then counts as hanging."""
_TIMES = ("/created", "/stages", "rate", "latency")
"""Parts of the names of what differs from one report to the next."""


class Program(ABC):
    """A command that can be killed."""

    name: ClassVar[str]

    def __init__(self, data: Path, run: Path) -> None:
        """Args: a packed data set, and a trained run."""
        self.data, self.run = data, run

    @abstractmethod
    def command(self, out: Path) -> list[str]:
        """The command that begins and that resumes."""

    @abstractmethod
    def result(self, out: Path) -> dict[str, str]:
        """What it has made, by name; equal wherever it is equal."""

    def check(self, out: Path) -> None:  # noqa: B027 - some keep nothing that could be lost
        """Raises ``NotSurvivedError`` if a kill has cost what was safe."""


class Packing(Program):
    """``shards.pack`` with two workers."""

    name = "packing"
    num_images = 3_000

    def command(self, out: Path) -> list[str]:
        """Packs the images into 60 shards."""
        shards = ["--num", str(self.num_images), "--samples_per_shard", str(self.num_images // 60)]
        options = [*shards, "--size", "32", "--workers", "2"]
        return [sys.executable, "-m", "shards.pack", "synthetic", str(out), *options]

    def result(self, out: Path) -> dict[str, str]:
        """Digest of every file."""
        files = [path for path in out.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Report(Program):
    """``eval.report`` of a run under two names."""

    name = "report"

    def command(self, out: Path) -> list[str]:
        """Evaluates on few images."""
        runs = [str(self.run), f"{self.run}:gaussian"]
        options = ["--split", "test", "--fid_weights", "none", "--num_train", "50", "--device", "cpu"]
        return [sys.executable, "-m", "eval.report", *runs, "--data", str(self.data), "--out", str(out), *options]

    def result(self, out: Path) -> dict[str, str]:
        """Every number but times."""
        return dict(_leaves(json.loads((out / "report.json").read_text().replace(str(out), "OUT"))))


class Sweep(Program):
    """``tuning.sweep``: the driver, Ray, and the trials."""

    name = "sweep"

    def command(self, out: Path) -> list[str]:
        """Two trials."""
        out.parent.mkdir(parents=True, exist_ok=True)
        space = write_space(out.with_name("space.yaml"), max_images=1280, evaluate_every_images=128)
        return sweep_command(space, self.data, out, "--num_cpus", "2", "--max_failures", "100")

    def result(self, out: Path) -> dict[str, str]:
        """Status and numbers of every trial."""
        return {trial.name: f"{trial.status} {trial.images_seen} {trial.values}" for trial in read_ledger(out)}

    def check(self, out: Path) -> None:
        """No trial is lost once there is a table."""
        with suppress(ValueError):
            if len(read_ledger(out)) > 2:
                raise NotSurvivedError(f"there are {len(read_ledger(out))} trials instead of 2")


PROGRAMS: dict[str, type[Program]] = {kind.name: kind for kind in (Packing, Report, Sweep)}


def survive(program: Program, folder: Path, num_kills: int, seed: int, tell: Callable[[str], None]) -> Survival:
    """Kills a program ``num_kills`` times; whenever it ends in between, its result is compared.

    Args:
        program: The victim.
        folder: Folder for its output; kills that it remembers are not repeated.
        num_kills: Number of kills.
        seed: Decides what is killed, how and when.
        tell: Called with a line after each kill.

    Raises:
        NotSurvivedError: A command failed without a kill, or its processes did not end.
    """
    progress, out, whole = Progress(folder, seed), folder / "out" / "killed", folder / "out" / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    started_sec = time.monotonic()
    _finish(program, whole, folder / "whole.log")
    usual_sec, expected = time.monotonic() - started_sec, program.result(whole)
    differing: set[str] = set()
    while len(progress.kills) < num_kills:
        number = len(progress.kills) + 1
        rng = random.Random(f"{seed} {program.name} {number}")
        kill, wait_sec = rng.choice(KILLS), rng.uniform(0.02, 0.9) * usual_sec
        end_sec = _live_and_die(program.command(out), kill, wait_sec, rng, folder / "life.log")
        program.check(out)
        if end_sec is None:  # It was faster than the kill: the next life begins from nothing.
            differing |= _differing(expected, program.result(out))
            shutil.rmtree(out)
            continue
        progress.add(Kill(kill, f"after {wait_sec:.1f} s", round(end_sec, 2)))
        tell(f"{program.name}, kill {number}: {kill} after {wait_sec:.1f} s of {usual_sec:.0f}")
    _finish(program, out, folder / "last.log")
    differing |= _differing(expected, program.result(out))
    return Survival(program.name, seed, 0, progress.kills, sorted(differing))


def _live_and_die(command: list[str], kill: str, wait_sec: float, rng: random.Random, log: Path) -> float | None:
    """Seconds from the kill to the end of all processes; None where the command ended before."""
    with open(log, "w") as file:
        main = subprocess.Popen(command, env=environment(), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    with suppress(subprocess.TimeoutExpired):
        if main.wait(wait_sec) != 0:
            raise NotSurvivedError(f"it fails without a kill:\n{log.read_text()[-2000:]}")
        return None
    family = _family(main.pid)
    _strike(kill, family, rng)
    struck_sec = time.monotonic()
    if kill == "SIGKILL to one process":
        # The others may finish the work without it, and a killed worker may be replaced.
        with suppress(subprocess.TimeoutExpired):
            main.wait(5)
        _strike("SIGTERM to the command", family, rng)
    while _alive(family):
        if time.monotonic() - struck_sec > END_SEC:
            names = [" ".join(process.cmdline())[:80] for process in _alive(family)]
            _strike("SIGKILL to all", family, rng)
            raise NotSurvivedError(f"{kill}: still running after {END_SEC:.0f} s: {names}")
        main.poll()
        time.sleep(0.05)
    main.wait()
    return time.monotonic() - struck_sec


def _family(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def _alive(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _strike(kill: str, family: Sequence[psutil.Process], rng: random.Random) -> None:
    name, target = kill.split(" to ")
    targets = {"all": family, "the command": family[:1], "one process": [rng.choice(family[1:] or family[:1])]}
    for process in targets[target]:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.Signals[name])


def _finish(program: Program, out: Path, log: Path) -> None:
    with open(log, "w") as file:
        done = subprocess.run(program.command(out), env=environment(), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    if done.returncode != 0:
        raise NotSurvivedError(f"the command does not finish:\n{log.read_text()[-2000:]}")


def environment() -> dict[str, str]:
    """One thread in every process: the same sums in the same order."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def _differing(expected: dict[str, str], found: dict[str, str]) -> set[str]:
    return {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}


def _leaves(content: object, path: str = "") -> Sequence[tuple[str, str]]:
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return [leaf for key, value in items for leaf in _leaves(value, f"{path}/{key}")]
    return [] if any(word in path for word in _TIMES) else [(path, repr(content))]
