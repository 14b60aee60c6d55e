"""Several processes against one: the same samples, losses and weights, also when the number changes between runs."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

import pytest

from facegen.runs.checkpoint import newest_complete
from facegen.runs.state_file import read_facts
from launching import RECORD, TINY, TRAIN, environment, launch, records, run
from shards.base.places import num_cores


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


def test_two_processes_start_from_the_components_that_one_finds(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 6, *TINY]
    options += ["--init", "pca", "--model.network.shortcut", "linear", "--model.network.output", "linear"]
    for world_size in (1, 2):
        command = launch(world_size, RECORD, tmp_path / f"{world_size}.jsonl", *options)
        cache = str(tmp_path / f"cache_{world_size}")
        run([*command, "--run", str(tmp_path / str(world_size))], FACEGEN_CACHE=cache)
    one = records(tmp_path / "1.jsonl", 0)
    ranks = [records(tmp_path / "2.jsonl", rank) for rank in range(2)]
    for alone, *shares in zip(one, *ranks, strict=True):
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


def test_two_processes_train_to_the_end_after_their_reader_has_gone(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["ae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 20, *TINY]
    command = launch(2, TRAIN, *options, "--run", tmp_path / "run", "--monitor.log_every_images", 32)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        assert process.stdout and process.stderr
        process.stdout.read(1)
        process.stdout.close()
        complaints = process.stderr.read().decode()
        assert process.wait(300) == 0, complaints
    assert "Traceback" not in complaints
    newest = newest_complete(tmp_path / "run" / "checkpoints")
    assert newest and read_facts(newest).images_seen == 640
