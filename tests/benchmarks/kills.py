"""Kills a training again and again, and checks that nothing is lost and the result is bitwise the undisturbed one.

    python tests/benchmarks/kills.py [--num_kills 25] [--world_sizes [1,2]]

A small VAE trains under ``accelerate launch``, with a checkpoint every few steps. After each kill the same command
restarts it. A seed decides what is killed, how and when: SIGKILL, SIGTERM or SIGUSR1, to the launcher, one process or
all, while they start, train or write a checkpoint. After each kill, no checkpoint may be damaged, the newest must be at
least as new as before, and the next start must resume exactly there. At the end, weights, moving average and optimizer
are compared with those of an undisturbed run on the same number of processes.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from facegen.runs.checkpoint import MARKER, damage, load_state, newest_complete
from facegen.runs.state_file import read_facts
from shards.base.cli import parse, run
from shards.pack import main as pack

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = {1: "cpu.yaml", 2: "cpu_processes.yaml"}

KILLS = (
    "SIGKILL to all",
    "SIGKILL to the launcher",
    "SIGKILL to one process",
    "SIGTERM to the launcher",
    "SIGTERM to one process",
    "SIGUSR1 to one process",
)
MOMENTS = ("starting", "training", "writing")
TRAINS = re.compile(r"^(?:trains from|resumes at) ([\d,]+) to", re.MULTILINE)
STOPPED = re.compile(r"^stopped at ([\d,]+) images", re.MULTILINE)

START_SEC = 120.0
"""Longest wait for a run to train, and to write a checkpoint."""
END_SEC = 45.0
"""Longest time from a kill to the end of all processes; a launcher gives its processes 30 s."""


class NotSurvivedError(AssertionError):
    """A kill cost more than the steps since the last checkpoint."""


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    data: Path | None = None
    """A packed data set; when null, synthetic faces of 16x16 are packed."""
    num_kills: int = 25
    """Kills of the run of each world size."""
    world_sizes: list[int] = field(default_factory=lambda: [1, 2])
    """Numbers of processes, 1 or 2."""
    seed: int = 0
    """Seed of what is killed, how and when."""
    out: Path = Path(__file__).parent / "results" / "kills.json"
    """File of the results."""


@dataclass(frozen=True)
class Kill:
    """One life of a run, and its end."""

    kill: str
    moment: str
    started_at: int | None
    """Images at which it resumed; None if it was killed before that."""
    newest_before: int
    """Images of the newest checkpoint at the moment of the kill; 0 without one."""
    newest_after: int
    """The same after all processes had ended."""
    has_saved: bool
    """Whether it saved before it ended."""
    left_unfinished: bool
    """Whether an unfinished checkpoint or snapshot was left; the next save removes it."""
    end_sec: float
    """Seconds from the kill to the end of all processes."""


@dataclass(frozen=True)
class Survival:
    """The outcome of the run of one world size."""

    world_size: int
    images: int
    kills: list[Kill]
    differing: list[str]
    """Tensors of the last checkpoint that differ from the undisturbed run's."""


def training(world_size: int, data: Path, run_dir: Path, max_images: int = 10**8) -> list[str]:
    """The command, with everything that a resume could get wrong: moving average, warm-up, batch norm, augmentation."""
    file = ROOT / "jobs" / "accelerate" / LAUNCH_FILES[world_size]
    program = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    program += ["--num_processes", str(world_size), str(ROOT / "facegen" / "train.py")]
    options = ["vae", "--data", str(data), "--run", str(run_dir), "--max_images", str(max_images)]
    options += ["--global_batch_size", "16", "--model.network.widths", "[32,64]", "--model.latent_size", "32"]
    options += ["--ema.half_life_images", "500", "--augment.brightness", "0.2", "--optim.schedule", "constant"]
    options += ["--checkpoint.every_images", "320", "--monitor.log_every_images", "1600"]
    return [*program, *options]


def survive(
    world_size: int, data: Path, folder: Path, num_kills: int, seed: int, tell: Callable[[str], None]
) -> Survival:
    """Kills a run ``num_kills`` times, lets it finish, and compares it with an undisturbed one.

    Args:
        world_size: Number of processes.
        data: Packed data set.
        folder: Folder for both runs.
        num_kills: Number of kills.
        seed: Decides what is killed, how and when.
        tell: Called with a line after each kill.

    Raises:
        NotSurvivedError: A checkpoint was lost or damaged, or a start did not resume at the newest one.
    """
    rng, run_dir, kills, newest = random.Random(seed), folder / "killed", [], 0
    for number, (kill, moment) in enumerate(itertools.islice(_draws(rng), num_kills), 1):
        log = folder / f"life_{number:03d}.log"
        end = _live_and_die(training(world_size, data, run_dir), run_dir, kill, moment, rng, log)
        if end.started_at not in (None, newest):
            raise NotSurvivedError(f"started at {end.started_at:,} images, but the newest checkpoint is at {newest:,}")
        kills.append(end)
        newest = end.newest_after
        tell(f"{world_size} process(es), kill {number}: {end.kill} while {end.moment}; {newest:,} images are safe")
    total = newest + 1_600
    for name in ("killed", "whole"):
        subprocess.run(
            training(world_size, data, folder / name, total), env=_environment(), check=True, capture_output=True
        )
    return Survival(world_size, total, kills, _differing(run_dir, folder / "whole"))


def _draws(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Every kind of kill at every kind of moment, in random order, forever."""
    while True:
        both = list(itertools.product(KILLS, MOMENTS))
        rng.shuffle(both)
        yield from both


def _live_and_die(command: list[str], run_dir: Path, kill: str, moment: str, rng: random.Random, log: Path) -> Kill:
    with open(log, "w") as file:
        launcher = subprocess.Popen(command, env=_environment(), stdout=file, stderr=subprocess.STDOUT)
    try:
        _await_moment(moment, launcher, log, run_dir, rng)
        newest_before = _newest(run_dir)
        struck_sec = time.monotonic()
        _strike(kill, launcher.pid, run_dir, rng)
        while _processes(run_dir):
            if time.monotonic() - struck_sec > END_SEC:
                raise NotSurvivedError(f"{kill} while {moment}: still running after {END_SEC:.0f} s")
            time.sleep(0.02)
        end_sec = time.monotonic() - struck_sec
    finally:
        launcher.kill()
        launcher.wait()
    text = log.read_text()
    started, stopped = TRAINS.search(text), STOPPED.search(text)
    newest_after = _newest(run_dir)
    _check(run_dir, text, newest_before, newest_after)
    if stopped and _number(stopped) != newest_after:
        raise NotSurvivedError(f"it claims to have stopped at {stopped[1]} images, but saved {newest_after:,}")
    if moment != "starting" and kill not in ("SIGKILL to one process", "SIGKILL to all") and not stopped:
        raise NotSurvivedError(f"{kill} while {moment} ended it before it saved:\n{text[-2000:]}")
    return Kill(
        kill,
        moment,
        _number(started) if started else None,
        newest_before,
        newest_after,
        stopped is not None,
        bool(_unfinished(run_dir)),
        round(end_sec, 2),
    )


def _await_moment(moment: str, launcher: subprocess.Popen[bytes], log: Path, run_dir: Path, rng: random.Random) -> None:
    def wait_until(is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SEC
        while not is_so():
            if launcher.poll() is not None or time.monotonic() > deadline:
                raise NotSurvivedError(f"it does not train:\n{log.read_text()[-2000:]}")
            time.sleep(0.002)

    if moment == "starting":
        time.sleep(rng.uniform(0, 6))
        return
    wait_until(lambda: TRAINS.search(log.read_text()))
    time.sleep(rng.uniform(0, 2))
    if moment == "writing":
        wait_until(lambda: _unfinished(run_dir))
        time.sleep(rng.uniform(0, 0.01))


def _strike(kill: str, launcher_pid: int, run_dir: Path, rng: random.Random) -> None:
    name, target = kill.split(" to ")
    workers = [process for process in _processes(run_dir) if process.pid != launcher_pid]
    if target == "all":
        targets = [*workers, psutil.Process(launcher_pid)]
    elif target == "one process" and workers:
        targets = [rng.choice(workers)]
    else:  # A launcher that is starting may have no processes yet.
        targets = [psutil.Process(launcher_pid)]
    for process in targets:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.Signals[name])


def _processes(run_dir: Path) -> list[psutil.Process]:
    """The launcher and its processes, also those that have lost their launcher."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(run_dir) in process.cmdline():
                found.append(process)
    return found


def _check(run_dir: Path, text: str, newest_before: int, newest_after: int) -> None:
    if newest_after < newest_before:
        raise NotSurvivedError(f"the checkpoint at {newest_before:,} images is lost, the newest is {newest_after:,}")
    if "is set aside" in text or "is skipped" in text:
        raise NotSurvivedError(f"a checkpoint was found damaged:\n{text[-2000:]}")
    for directory in (*(run_dir / "checkpoints").glob("images_*"), *(run_dir / "snapshots").glob("images_*")):
        problem = damage(directory)
        if problem:
            raise NotSurvivedError(f"{directory.name} is damaged: {problem}")


def _newest(run_dir: Path) -> int:
    """Images of the newest checkpoint with a marker; 0 without one."""
    sealed = [path.parent.name for path in (run_dir / "checkpoints").glob(f"images_*/{MARKER}")]
    return max((int(name.removeprefix("images_")) for name in sealed), default=0)


def _unfinished(run_dir: Path) -> list[Path]:
    return [path for name in ("checkpoints", "snapshots") for path in (run_dir / name).glob(".images_*.tmp")]


def _number(match: re.Match[str]) -> int:
    return int(match[1].replace(",", ""))


def _differing(first: Path, second: Path) -> list[str]:
    """Names of tensors that differ between two runs' newest checkpoints."""
    ours, theirs = _tensors(first), _tensors(second)
    return [name for name in sorted(ours.keys() | theirs.keys()) if not _is_same(ours.get(name), theirs.get(name))]


def _is_same(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)


def _tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    newest = newest_complete(run_dir / "checkpoints")
    if newest is None:
        raise NotSurvivedError(f"{run_dir.name} has no complete checkpoint")
    tensors = {"images_seen": torch.tensor(read_facts(newest)["images_seen"])}
    for name in ("weights", "ema"):
        tensors |= {f"{name}.{key}": value for key, value in load_file(newest / f"{name}.safetensors").items()}
    for network, updater in load_state(newest / "optimizers.pt").items():
        for number, moments in updater["optimizer"]["state"].items():
            tensors |= {f"{network}.{number}.{key}": value for key, value in moments.items()}
    return tensors


def _environment() -> dict[str, str]:
    # One thread in every process: the same sums in the same order, whatever the launcher sets.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def table(survivals: list[Survival]) -> str:
    """The results as Markdown."""
    lines = ["| processes | killed | kills | saved first | cut off in writing | longest end | images | tensors apart |"]
    lines += ["|---:|---|---:|---:|---:|---:|---:|---:|"]
    for survival in survivals:
        for kill in (*KILLS, ""):
            kills = [end for end in survival.kills if kill in ("", end.kill)]
            if not kills:
                continue
            saved = sum(end.has_saved for end in kills)
            cut_off = sum(end.left_unfinished and end.moment == "writing" for end in kills)
            row = f"| {survival.world_size} | {kill or '**all**'} | {len(kills)} | {saved} | {cut_off} "
            row += f"| {max(end.end_sec for end in kills):.1f} s |"
            lines.append(row + (" | |" if kill else f" {survival.images:,} | {len(survival.differing)} |"))
    return "\n".join(lines)


def main() -> None:
    """Kills, prints a table and writes the results."""
    # Without arguments the parser would print its help.
    arguments = sys.argv[1:] or [f"--num_kills={Config.num_kills}"]
    config = parse(Config, prog="python tests/benchmarks/kills.py", description=__doc__ or "", args=arguments)
    started_sec, survivals = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        data = config.data or Path(scratch) / "data"
        if config.data is None:
            pack(["synthetic", str(data), "--num", "256", "--size", "16", "--workers", "1"])
        for world_size in config.world_sizes:
            folder = Path(scratch) / f"world_size_{world_size}"
            folder.mkdir()
            tell = lambda line: print(line, flush=True)  # noqa: E731
            survivals.append(survive(world_size, data, folder, config.num_kills, config.seed, tell))
    print(table(survivals))
    content = {
        "command": " ".join(["python tests/benchmarks/kills.py", *sys.argv[1:]]),
        "minutes": round((time.monotonic() - started_sec) / 60, 1),
        "versions": {name: version(name) for name in ("torch", "accelerate")},
        "runs": [asdict(survival) for survival in survivals],
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(content, indent=1) + "\n")
    if any(survival.differing for survival in survivals):
        raise NotSurvivedError("the weights are not those of the undisturbed run")


if __name__ == "__main__":
    run(main)
