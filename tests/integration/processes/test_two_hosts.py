"""Two hosts: network namespaces joined by a virtual cable (veth), with one process group over both."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facegen.runs.checkpoint import newest_complete
from hosts import can_make_hosts, host_launch, ip, two_hosts
from launching import RECORD, TINY, TRAIN, environment, launch, records, run

pytestmark = pytest.mark.skipif(not can_make_hosts(), reason="needs root and `ip` to make network namespaces")


@pytest.fixture
def hosts() -> Iterator[None]:
    with two_hosts():
        yield


def on_host(number: int, *script: str | Path) -> subprocess.Popen[str]:
    """Starts the documented line of one machine."""
    command, variables = host_launch(number, *script)
    return subprocess.Popen(
        command, env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(processes: list[subprocess.Popen[str]]) -> list[str]:
    """The output of both processes, which must end within five minutes."""
    try:
        return [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    outputs = end(processes)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return outputs


def test_two_hosts_do_what_two_processes_of_one_host_do(hosts: None, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 12, *TINY]
    run(launch(2, RECORD, tmp_path / "one.jsonl", *options, "--run", tmp_path / "one"))
    both = [RECORD, tmp_path / "two.jsonl", *options, "--run", tmp_path / "two"]
    outputs = finish([on_host(0, *both), on_host(1, *both)])
    for rank in (0, 1):
        assert records(tmp_path / "two.jsonl", rank) == records(tmp_path / "one.jsonl", rank)
    assert "2 process(es)" in outputs[0] and "2 process(es)" not in outputs[1]  # Only the first one prints it.


def test_a_run_of_two_hosts_resumes_on_one(hosts: None, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["ae", "--data", tiny_dataset, "--global_batch_size", 32, "--loader.canonical_nodes", 4, *TINY]
    options += ["--run", tmp_path / "cut"]
    start = [RECORD, tmp_path / "start.jsonl", *options, "--max_steps", 4]
    finish([on_host(0, *start), on_host(1, *start)])
    run(launch(1, RECORD, tmp_path / "rest.jsonl", *options, "--max_steps", 10))
    whole = [*options[:-1], tmp_path / "whole"]
    run(launch(1, RECORD, tmp_path / "whole.jsonl", *whole, "--max_steps", 10))
    for alone, continued in zip(
        records(tmp_path / "whole.jsonl", 0)[4:], records(tmp_path / "rest.jsonl", 0), strict=True
    ):
        assert continued["rows"] == alone["rows"]
        assert continued["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    state = json.loads((tmp_path / "cut" / "checkpoints" / f"images_{320:012d}" / "state.json").read_text())
    assert state["images_seen"] == 320


def test_a_host_without_the_data_says_so_itself(hosts: None, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["--global_batch_size", 32, *TINY, "--run", tmp_path / "run"]
    command = [TRAIN, "vae", *options, "--data"]
    outputs = end([on_host(0, *command, tiny_dataset), on_host(1, *command, tmp_path / "nowhere")])
    assert outputs[1].count(f"error: {tmp_path / 'nowhere'} holds no complete data set") == 1
    assert outputs[0].count("error: process 0 has lost another one") == 1


def test_a_cable_that_is_cut_ends_both_hosts(hosts: None, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, *TINY, "--run", tmp_path / "run"]
    options += ["--max_images", 10**7, "--monitor.log_every_images", 640, "--checkpoint.every_images", 640]
    script = [TRAIN, *options, "--process_timeout_sec", 4]
    processes = [on_host(0, *script), on_host(1, *script)]
    assert processes[0].stdout is not None
    for line in processes[0].stdout:
        if "images/s" in line:
            break
    ip("-n", "facegen1", "link", "set", "cable1", "down")
    cut_at = time.monotonic()
    for rank, output in enumerate(end(processes)):
        assert output.count(f"error: process {rank} has lost another one") == 1, output
    assert time.monotonic() - cut_at < 40
    assert newest_complete(tmp_path / "run" / "checkpoints") is not None
