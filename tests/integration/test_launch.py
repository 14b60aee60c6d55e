"""Real processes: two ranks against one, kills at random moments, and signals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from facegen.checkpoint import newest_complete

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "facegen" / "train.py"
RECORD = Path(__file__).with_name("record_run.py")

# A net without batch norm: its statistics depend on how a batch is cut.
TINY = ["--model.network.widths", "[8,16]", "--model.network.norm", "none", "--model.latent_size", "8"]


def launch(num_processes: int, script: Path, *arguments: str | Path) -> list[str]:
    file = ROOT / "jobs" / "accelerate" / ("cpu.yaml" if num_processes == 1 else "cpu_processes.yaml")
    program = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [*program, "--num_processes", str(num_processes), str(script), *map(str, arguments)]


def environment() -> dict[str, str]:
    # One thread everywhere: the same sums in the same order, whatever the launcher decides.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(command: list[str]) -> None:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def records(path: Path, rank: int) -> list[dict]:
    return [json.loads(line) for line in Path(f"{path}.{rank}").read_text().splitlines()]


def final_weights(run_dir: Path) -> dict:
    newest = newest_complete(run_dir / "checkpoints")
    assert newest is not None
    return load_file(newest / "weights.safetensors")


def assert_bitwise_equal(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_two_processes_do_what_one_does(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 14, *TINY]
    options += ["--augment.brightness", 0.2, "--ema.half_life_images", 100]
    run(launch(1, RECORD, tmp_path / "one.jsonl", *options, "--run", tmp_path / "one"))
    run(launch(2, RECORD, tmp_path / "two.jsonl", *options, "--run", tmp_path / "two"))
    one = records(tmp_path / "one.jsonl", 0)
    first, second = records(tmp_path / "two.jsonl", 0), records(tmp_path / "two.jsonl", 1)
    assert len(one) == len(first) == len(second) == 14
    for alone, rank_0, rank_1 in zip(one, first, second, strict=True):
        assert rank_0["rows"] + rank_1["rows"] == alone["rows"]
        assert rank_0["parameters"] == rank_1["parameters"]
        assert (rank_0["loss"] + rank_1["loss"]) / 2 == pytest.approx(alone["loss"], abs=1e-5)
    assert one[0]["parameters"] != one[-1]["parameters"]


def test_a_run_continues_on_another_number_of_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["ae", "--data", tiny_dataset, "--global_batch_size", 32, *TINY]
    run(launch(1, RECORD, tmp_path / "whole.jsonl", *options, "--run", tmp_path / "whole", "--max_steps", 10))
    run(launch(1, RECORD, tmp_path / "start.jsonl", *options, "--run", tmp_path / "cut", "--max_steps", 4))
    run(launch(2, RECORD, tmp_path / "rest.jsonl", *options, "--run", tmp_path / "cut", "--max_steps", 10))
    whole = records(tmp_path / "whole.jsonl", 0)[4:]
    rest = zip(records(tmp_path / "rest.jsonl", 0), records(tmp_path / "rest.jsonl", 1), strict=True)
    for alone, (rank_0, rank_1) in zip(whole, rest, strict=True):
        assert rank_0["images_seen"] == alone["images_seen"]
        assert rank_0["rows"] + rank_1["rows"] == alone["rows"]
        assert (rank_0["loss"] + rank_1["loss"]) / 2 == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize("num_kills", [2, pytest.param(10, marks=pytest.mark.slow)], ids=["two_kills", "ten_kills"])
def test_kills_at_random_moments_change_nothing(tiny_dataset: Path, tmp_path: Path, num_kills: int) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 16, "--max_images", num_kills * 6_000, *TINY]
    options += ["--checkpoint.every_images", 800, "--monitor.log_every_images", 2_000, "--ema.half_life_images", 500]
    run(launch(1, TRAIN, *options, "--run", tmp_path / "whole"))
    command = launch(1, TRAIN, *options, "--run", tmp_path / "killed")
    moments = random.Random(num_kills)
    kills = 0
    while kills < num_kills:
        process = subprocess.Popen(
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(("trains from", "resumes at")):
                break
        time.sleep(moments.uniform(0.0, 1.5))
        assert process.poll() is None, "the run ended before it could be killed: make it longer"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
    run(command)
    assert_bitwise_equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed"))
    seen = [
        json.loads(line)["images_seen"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert seen == sorted(seen)


def test_sigterm_to_the_launcher_saves_and_the_same_command_goes_on(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 16, *TINY, "--run", tmp_path / "run"]
    command = launch(1, TRAIN, *options, "--max_images", 10**7)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "images/s" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    newest = newest_complete(tmp_path / "run" / "checkpoints")
    assert newest is not None
    seen = json.loads((newest / "state.json").read_text())["images_seen"]
    assert seen >= 2_000
    run(launch(1, TRAIN, *options, "--max_images", seen + 32))
    assert (tmp_path / "run" / "checkpoints" / f"images_{seen + 32:012d}" / "COMPLETE").is_file()
