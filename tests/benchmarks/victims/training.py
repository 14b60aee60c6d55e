"""A training on one process, two processes, or two hosts (network namespaces).

A small VAE trains under ``accelerate launch``, with a checkpoint every few steps. After each kill the same command
restarts it. A seed decides what is killed, how and when: SIGKILL, SIGTERM or SIGUSR1, to the launcher, one process,
one host or all, while they start, train or write a checkpoint. After each kill, no checkpoint may be damaged, the
newest must be at least as new as before, and the next start must resume exactly there. At the end, weights, moving
average and optimizer are compared with those of an undisturbed run on the same number of processes.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from facegen.runs.checkpoint import MARKER, damage, load_state, newest_complete
from facegen.runs.state_file import read_facts
from hosts import host_launch, two_hosts
from tests.benchmarks.victims.outcome import Kill, NotSurvivedError, Progress, Survival

ROOT = Path(__file__).resolve().parents[3]
LAUNCH_FILES = {"1": "cpu.yaml", "2": "cpu_processes.yaml"}

KILLS = (
    "SIGKILL to all",
    "SIGKILL to the launcher",
    "SIGKILL to one process",
    "SIGTERM to the launcher",
    "SIGTERM to one process",
    "SIGUSR1 to one process",
)
HOST_KILLS = ("SIGKILL to one host", "SIGTERM to one host")
"""Also tried where there are two: all processes of one, and its launcher."""
_SUDDEN = ("SIGKILL to one process", "SIGKILL to all", "SIGKILL to one host")
"""These leave nobody who could save, or nobody to save with."""
MOMENTS = ("starting", "training", "writing")
TRAINS = re.compile(r"^(?:trains from|resumes at) ([\d,]+) to", re.MULTILINE)
STOPPED = re.compile(r"^stopped at ([\d,]+) images", re.MULTILINE)

START_SEC = 120.0
"""Longest wait for a run to train, and to write a checkpoint."""
END_SEC = 45.0
"""Longest time from a kill to the end of all processes; a launcher gives its processes 30 s."""


def training(place: str, data: Path, run_dir: Path, max_images: int = 10**8) -> list[tuple[list[str], dict[str, str]]]:
    """The command of each host, with everything that a resume could get wrong, and the variables that it needs.

    Moving average, warm-up, batch norm, augmentation.
    """
    script = str(ROOT / "facegen" / "train.py")
    options = ["vae", "--data", str(data), "--run", str(run_dir), "--max_images", str(max_images)]
    options += ["--global_batch_size", "16", "--model.network.widths", "[32,64]", "--model.latent_size", "32"]
    options += ["--ema.half_life_images", "500", "--augment.brightness", "0.2", "--optim.schedule", "constant"]
    options += ["--checkpoint.every_images", "320", "--monitor.log_every_images", "1600"]
    if place == "hosts":
        return [host_launch(number, script, *options) for number in (0, 1)]
    file = ROOT / "jobs" / "accelerate" / LAUNCH_FILES[place]
    program = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [([*program, "--num_processes", place, script, *options], {})]


def survive(place: str, data: Path, folder: Path, num_kills: int, seed: int, tell: Callable[[str], None]) -> Survival:
    """Kills a run ``num_kills`` times, lets it finish, and compares it with an undisturbed one.

    Args:
        place: Number of processes, ``1`` or ``2``; or ``hosts``, two hosts with one each.
        data: Packed data set.
        folder: Folder for both runs; kills that it remembers are not repeated.
        num_kills: Number of kills.
        seed: Decides what is killed, how and when.
        tell: Called with a line after each kill.

    Raises:
        NotSurvivedError: A checkpoint was lost or damaged, or a start did not resume at the newest one.
    """
    progress, run_dir = Progress(folder, seed), folder / "killed"
    with two_hosts() if place == "hosts" else nullcontext():
        for number in range(len(progress.kills) + 1, num_kills + 1):
            newest = _newest(run_dir)
            rng = random.Random(f"{seed} {place} {number}")
            kill, moment = _draw(place, seed, number)
            end = _live_and_die(training(place, data, run_dir), run_dir, kill, moment, rng, folder / "life.log")
            if end.started_at not in (None, newest):
                raise NotSurvivedError(f"started at {end.started_at:,} images, the newest checkpoint is at {newest:,}")
            progress.add(end)
            tell(f"{place}, kill {number}: {kill} while {moment}; {end.newest_after:,} images are safe")
        total = progress.kills[-1].newest_after + 1_600
        for name in ("killed", "whole"):
            starting = [_start(line, subprocess.DEVNULL) for line in training(place, data, folder / name, total)]
            if any(process.wait() for process in starting):
                raise NotSurvivedError(f"{name} does not finish")
    return Survival(f"training, {place}", seed, total, progress.kills, _differing(run_dir, folder / "whole"))


def _draw(place: str, seed: int, number: int) -> tuple[str, str]:
    """The kind of kill and of moment: all of them in random order, then again."""
    both = list(itertools.product((*KILLS, *(HOST_KILLS if place == "hosts" else ())), MOMENTS))
    turn, position = divmod(number - 1, len(both))
    random.Random(f"{seed} {turn}").shuffle(both)
    return both[position]


def _start(line: tuple[list[str], dict[str, str]], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line[0], env=_environment() | line[1], stdout=output, stderr=subprocess.STDOUT)


def _live_and_die(
    lines: list[tuple[list[str], dict[str, str]]], run_dir: Path, kill: str, moment: str, rng: random.Random, log: Path
) -> Kill:
    with open(log, "w") as file:
        launchers = [_start(line, file.fileno()) for line in lines]
    try:
        _await_moment(moment, launchers, log, run_dir, rng)
        newest_before = _newest(run_dir)
        struck_sec = time.monotonic()
        pids = [launcher.pid for launcher in launchers]
        _strike(kill, pids, run_dir, rng)
        if len(launchers) > 1 and moment == "starting":
            # A host that waits for the other's first word does so for half an hour; a scheduler ends both.
            _strike("SIGKILL to all", pids, run_dir, rng)
        while _processes(run_dir):
            if time.monotonic() - struck_sec > END_SEC:
                raise NotSurvivedError(f"{kill} while {moment}: still running after {END_SEC:.0f} s")
            time.sleep(0.02)
        end_sec = time.monotonic() - struck_sec
    finally:
        for launcher in launchers:
            launcher.kill()
            launcher.wait()
    text = log.read_text()
    started, stopped = TRAINS.search(text), STOPPED.search(text)
    newest_after = _newest(run_dir)
    _check(run_dir, text, newest_before, newest_after)
    if stopped and _number(stopped) != newest_after:
        raise NotSurvivedError(f"it claims to have stopped at {stopped[1]} images, but saved {newest_after:,}")
    if moment != "starting" and kill not in _SUDDEN and not stopped:
        raise NotSurvivedError(f"{kill} while {moment} ended it before it saved:\n{text[-2000:]}")
    return Kill(
        kill,
        moment,
        round(end_sec, 2),
        _number(started) if started else None,
        newest_before,
        newest_after,
        stopped is not None,
        bool(_unfinished(run_dir)),
    )


def _await_moment(
    moment: str, launchers: list[subprocess.Popen[bytes]], log: Path, run_dir: Path, rng: random.Random
) -> None:
    def wait_until(is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SEC
        while not is_so():
            if any(launcher.poll() is not None for launcher in launchers) or time.monotonic() > deadline:
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


def _strike(kill: str, launchers: list[int], run_dir: Path, rng: random.Random) -> None:
    name, target = kill.split(" to ")
    launcher = psutil.Process(rng.choice(launchers))
    workers = [process for process in _processes(run_dir) if process.pid not in launchers]
    if target == "all":
        targets = [*workers, *map(psutil.Process, launchers)]
    elif target == "one host" and name == "SIGKILL":
        targets = [launcher, *launcher.children(recursive=True)]
    elif target == "one process" and workers:
        targets = [rng.choice(workers)]
    else:  # A launcher that is starting may have no processes yet.
        targets = [launcher]
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
    tensors = {"images_seen": torch.tensor(read_facts(newest).images_seen)}
    for name in ("weights", "ema"):
        tensors |= {f"{name}.{key}": value for key, value in load_file(newest / f"{name}.safetensors").items()}
    for network, updater in load_state(newest / "optimizers.pt").items():
        for number, moments in updater["optimizer"]["state"].items():
            tensors |= {f"{network}.{number}.{key}": value for key, value in moments.items()}
    return tensors


def _environment() -> dict[str, str]:
    # One thread in every process: the same sums in the same order, whatever the launcher sets.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
