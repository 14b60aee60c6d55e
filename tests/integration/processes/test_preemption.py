"""A signal to any process at any moment: a complete checkpoint, exit code 143, and the run resumes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from disturbed_run import TOLD
from facegen.runs.checkpoint import newest_complete
from launching import DISTURBED, RECORD, TINY, TRAIN, environment, launch, records, run, wait_for_line

ALLOWED_SEC = 30
"""After it, the launcher kills its processes."""

# Signal, rank, moment, images seen then, and images at which the run must stop: steps finish, evaluations are cut off.
INTERRUPTIONS = [
    ("SIGTERM", 1, "step", 32, 48),
    ("SIGUSR1", 0, "evaluation", 64, 64),
    ("SIGTERM", 1, "pictures", 128, 128),
    ("SIGTERM", 0, "checkpoint", 192, 192),
]
OTHERS = [
    ("SIGTERM", 0, "step", 16, 32),
    ("SIGTERM", 1, "evaluation", 64, 64),
    ("SIGUSR1", 0, "pictures", 128, 128),
    ("SIGUSR1", 1, "checkpoint", 192, 192),
]
TOTAL = 256


@pytest.mark.parametrize("interruptions", [INTERRUPTIONS, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["1", "2"])
def test_a_signal_to_one_process_at_any_moment_and_another_number_resumes(
    interruptions: list[tuple[str, int, str, int, int]], tiny_dataset: Path, tmp_path: Path
) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 16, *TINY, "--monitor.log_every_images", 32]
    for name in ("monitor.validate_every_images", "monitor.grid_every_images", "checkpoint.every_images"):
        options += [f"--{name}", 64]
    cut = [*options, "--run", tmp_path / "cut"]
    for signal, rank, moment, images_seen, stopped_at in interruptions:
        case = f"{signal} to rank {rank}, {moment}"
        command = launch(2, DISTURBED, signal, str(rank), moment, str(images_seen), *cut, "--max_images", 10**6)
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        asked_at = wait_for_line(process, TOLD)
        out, err = process.communicate(timeout=ALLOWED_SEC)
        assert time.monotonic() - asked_at < ALLOWED_SEC, case
        assert "rank 0 ends with 143" in out and "rank 1 ends with 143" in out, (case, out, err)
        assert process.returncode != 0 and "exitcode  : 143" in err, (case, err)
        newest = newest_complete(tmp_path / "cut" / "checkpoints")
        assert newest is not None and newest.name == f"images_{stopped_at:012d}", case
        assert not list(newest.parent.glob(".*.tmp")), case
        if moment == "evaluation":
            lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
            assert not [line for line in lines if f'"images_seen": {stopped_at}, "val/' in line], case
    run(launch(1, RECORD, tmp_path / "rest.jsonl", *cut, "--max_images", TOTAL))
    run(launch(1, RECORD, tmp_path / "whole.jsonl", *options, "--run", tmp_path / "whole", "--max_images", TOTAL))
    rest = records(tmp_path / "rest.jsonl", 0)
    whole = records(tmp_path / "whole.jsonl", 0)[-len(rest) :]
    assert [line["images_seen"] for line in rest] == [208, 224, 240, 256]
    for alone, continued in zip(whole, rest, strict=True):
        assert continued["rows"] == alone["rows"]
        assert continued["loss"] == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_sigterm_to_the_launcher_saves_and_the_same_command_resumes(
    num_processes: int, tiny_dataset: Path, tmp_path: Path
) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 16, *TINY, "--run", tmp_path / "run"]
    options += ["--monitor.log_every_images", 800]
    command = launch(num_processes, TRAIN, *options, "--max_images", 10**7)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_line(process, "images/s")
    process.terminate()
    process.communicate(timeout=ALLOWED_SEC)  # Returns when its processes have closed the pipes, too.
    newest = newest_complete(tmp_path / "run" / "checkpoints")
    assert newest is not None
    seen = json.loads((newest / "state.json").read_text())["images_seen"]
    assert seen >= 800
    run(launch(num_processes, TRAIN, *options, "--max_images", seen + 32))
    assert (tmp_path / "run" / "checkpoints" / f"images_{seen + 32:012d}" / "COMPLETE").is_file()
