"""Faults while two processes train: all end with a sentence, no checkpoint is lost, and the run resumes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from disturbed_run import TOLD
from facegen.runs.checkpoint import newest_complete
from launching import (
    DISTURBED,
    TINY,
    TRAIN,
    assert_bitwise_equal,
    environment,
    final_weights,
    launch,
    run,
    wait_for_line,
)
from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader

LOST = "has lost another one, which ended or did not answer"


@pytest.fixture
def options(tiny_dataset: Path) -> list[str | Path]:
    sizes: list[str | Path] = ["--global_batch_size", "32", "--checkpoint.every_images", "64", "--max_images", "320"]
    return ["vae", "--data", tiny_dataset, *sizes, *TINY]


def fail(command: list[str]) -> tuple[str, str]:
    """Runs a command that must fail on its own within two minutes; returns its output and errors."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stdout
    return done.stdout, done.stderr


def newest_of(run_dir: Path) -> str:
    newest = newest_complete(run_dir / "checkpoints")
    assert newest is not None
    return newest.name


@pytest.mark.parametrize(("rank", "moment"), [(1, "step"), (0, "checkpoint")])
def test_a_rank_that_is_killed_ends_the_other(
    rank: int, moment: str, options: list[str | Path], tmp_path: Path
) -> None:
    _, err = fail(launch(2, DISTURBED, "SIGKILL", str(rank), moment, "128", *options, "--run", tmp_path / "run"))
    assert err.count(f"error: process {1 - rank} {LOST}") == 1 and "Traceback (most recent call last):\n  File" in err
    assert "facegen/training/trainer.py" not in err
    # If the main process is killed while it writes the checkpoint at 128 images, the one before it is the newest.
    assert newest_of(tmp_path / "run") == f"images_{64 if moment == 'checkpoint' else 128:012d}"
    leftovers = list((tmp_path / "run" / "checkpoints").glob(".images_*.tmp"))
    assert len(leftovers) == (1 if moment == "checkpoint" else 0)
    for name in ("run", "whole"):
        run(launch(2, TRAIN, *options, "--run", tmp_path / name))
    assert_bitwise_equal(final_weights(tmp_path / "run"), final_weights(tmp_path / "whole"))
    assert not list((tmp_path / "run" / "checkpoints").glob(".images_*.tmp"))


def test_a_rank_that_does_not_answer_ends_the_other_after_the_timeout(
    options: list[str | Path], tmp_path: Path
) -> None:
    command = launch(2, DISTURBED, "SIGSTOP", "1", "step", "128", *options, "--run", tmp_path / "run")
    process = subprocess.Popen(
        [*command, "--process_timeout_sec", "3"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    (stopped_at, stopped) = wait_for_line(process, TOLD), None
    while not (stopped := [child for child in psutil.Process(process.pid).children() if child.status() == "stopped"]):
        time.sleep(0.1)
    said_at = wait_for_line(process, "rank 0 ends with 1")
    assert 3 <= said_at - stopped_at + 0.5 < 15
    stopped[0].send_signal(signal.SIGKILL)  # The launcher would do so 30 s later.
    _, err = process.communicate(timeout=60)
    # Of two concurrent exchanges one hits the limit, and either may report it.
    reasons = r"\((Timed out waiting 3000ms|Application timeout caused pair closure\))"
    assert len(re.findall(f"error: process 0 {LOST} {reasons}", err)) == 1
    assert newest_of(tmp_path / "run") == f"images_{128:012d}"
    run(launch(1, TRAIN, *options, "--run", tmp_path / "run"))


def test_a_bad_loss_of_one_rank_ends_both_with_one_sentence(options: list[str | Path], tmp_path: Path) -> None:
    out, err = fail(launch(2, DISTURBED, "nan", "1", "loss", "96", *options, "--run", tmp_path / "run"))
    assert err.count("error: ") == 1
    assert "error: training stopped before step 4 (96 images): loss, gradient of the autoencoder is not finite" in err
    assert "rank 0 ends with 1" in out and "rank 1 ends with 1" in out
    assert newest_of(tmp_path / "run") == f"images_{64:012d}"


def test_a_damaged_image_of_one_rank_is_named_once(
    options: list[str | Path], tiny_dataset: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_dataset, data)
    dataset = Dataset(data)
    options = [data if option == tiny_dataset else option for option in options]
    batches = iter(TrainLoader(dataset, "train", global_batch_size=32, seed=0, rank=1, world_size=2))
    (row, *_) = [next(batches) for _ in range(4)][-1].rows.tolist()
    batches.close()  # type: ignore[attr-defined]
    shard, first = next(
        (shard, end - shard.num_samples)
        for shard, end in zip(dataset.shards("train"), dataset.shard_sizes("train").cumsum().tolist(), strict=True)
        if row < end
    )
    assert first <= row
    with open(data / shard.name, "r+b") as file:
        file.seek(int(dataset.column("offset", "train")[row]))
        file.write(b"\xff\xd9")  # In place of a JPEG's first bytes.
    _, err = fail(launch(2, TRAIN, *options, "--run", tmp_path / "run"))
    assert err.count(f"error: sample {dataset.key('train', row)} of shard {data / shard.name}: ") == 1
    assert "exitcode  : 2" in err
    assert newest_of(tmp_path / "run") == f"images_{64:012d}"
    shutil.copy(tiny_dataset / shard.name, data / shard.name)
    run(launch(2, TRAIN, *options, "--run", tmp_path / "run"))


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory, whose size can be changed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not mount("-o", "size=64m", "facegen", disk):
        pytest.skip("needs root, to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def set_size(disk: Path, num_bytes: int) -> None:
    assert mount("-o", f"remount,size={num_bytes}", "facegen", disk)


def test_a_disk_that_fills_up_during_a_checkpoint(options: list[str | Path], small_disk: Path) -> None:
    run_dir = small_disk / "run"
    options += ["--run", run_dir, "--model.network.widths", "[64,128]"]
    run(launch(2, TRAIN, *options, "--max_images", "64"))
    usage = shutil.disk_usage(small_disk)
    saved = sum(path.stat().st_size for path in (run_dir / "checkpoints").rglob("*") if path.is_file())
    # Room for the next snapshot, a third of a checkpoint, but not for the checkpoint after it.
    set_size(small_disk, usage.used + saved)
    _, err = fail(launch(2, TRAIN, *options))
    assert err.count("error: ") == 1
    sentence = f"error: the checkpoint at 128 images cannot be written to {run_dir} (No space left on device)"
    assert sentence in err
    assert newest_of(run_dir) == f"images_{64:012d}"
    assert not list((run_dir / "checkpoints").glob(".*.tmp"))
    set_size(small_disk, 64 * 2**20)
    run(launch(2, TRAIN, *options))
    assert newest_of(run_dir) == f"images_{320:012d}"
