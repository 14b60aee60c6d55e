"""Real processes: two ranks against one, kills at random moments, and signals."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from facegen.runs.checkpoint import newest_complete
from shards.base.places import num_cores

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


def test_two_and_four_processes_do_what_one_does(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 14, *TINY]
    options += ["--augment.brightness", 0.2, "--ema.half_life_images", 100]
    for world_size in (1, 2, 4):
        record = tmp_path / f"{world_size}.jsonl"
        run(launch(world_size, RECORD, record, *options, "--run", tmp_path / str(world_size)))
    one = records(tmp_path / "1.jsonl", 0)
    assert one[0]["parameters"] != one[-1]["parameters"]
    for world_size in (2, 4):
        ranks = [records(tmp_path / f"{world_size}.jsonl", rank) for rank in range(world_size)]
        assert {len(lines) for lines in (one, *ranks)} == {14}
        cores = [set(lines[0]["cores"]) for lines in ranks]
        if world_size <= num_cores():
            assert sum(map(len, cores)) == len(set.union(*cores)) <= num_cores(), "processes share a core"
        for alone, *shares in zip(one, *ranks, strict=True):
            assert [row for share in shares for row in share["rows"]] == alone["rows"]
            assert len({share["parameters"] for share in shares}) == 1
            assert statistics.fmean(share["loss"] for share in shares) == pytest.approx(alone["loss"], abs=1e-5)


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
