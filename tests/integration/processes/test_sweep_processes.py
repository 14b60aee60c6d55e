"""Sweeps as commands: killed midway, with two workers, and on a cluster of two nodes."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.util import get_node_ip_address

from launching import TRAIN, assert_bitwise_equal, environment, final_weights, json_lines, launch, run
from sweeps import TINY, command, write_space
from tuning.ledger import read_ledger

SWEEP_SEC = 580


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))


def as_arguments(options: dict) -> list[str]:
    texts = ((f"--{name}", value if isinstance(value, str) else json.dumps(value)) for name, value in options.items())
    return [text for pair in texts for text in pair]


def starts(out: Path) -> dict[str, list[int]]:
    """For each trial, the images at which its trainings started, in order."""
    pattern = re.compile(r"^(?:trains from|resumes at) ([\d,]+) to", re.MULTILINE)
    return {
        log.parent.name: [int(images.replace(",", "")) for images in pattern.findall(log.read_text())]
        for log in sorted((out / "trials").glob("*/train.log"))
    }


@pytest.mark.slow
def test_a_driver_killed_twice_resumes_and_no_trial_starts_over(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "space.yaml",
        search={"model.kld_weight": {"grid": [0.01, 0.1, 0.3]}},
        max_images=6_400,
        evaluate_every_images=800,
        options={"monitor.log_every_images": 10**9},
    )
    program = command(space, tiny_dataset, tmp_path / "out", "--num_cpus", "1")
    seen_before = 0
    for wanted in (3, 8):  # Evaluations before each kill: in the first trial, and in a later one.
        process = subprocess.Popen(
            program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        evaluations = 0
        for line in process.stdout:
            evaluations += " images | score " in line
            if evaluations == wanted:
                break
        assert process.poll() is None, "the sweep ended before it could be killed: make it longer"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        seen = sum(len(images) for images in starts(tmp_path / "out").values())
        assert seen > seen_before
        seen_before = seen
    run(program, SWEEP_SEC)
    records = read_ledger(tmp_path / "out")
    assert [(record.status, record.images_seen) for record in records] == [("finished", 6_400)] * 3
    begun = starts(tmp_path / "out")
    assert sorted(begun) == sorted(record.name for record in records)
    for images in begun.values():
        assert images[0] == 0 and all(seen > 0 for seen in images[1:])  # From scratch once, then from checkpoints.
    assert sum(len(images) for images in begun.values()) == len(records) + 2
    for record in records:
        entries = json_lines(tmp_path / "out" / "trials" / record.name / "evaluations.jsonl")
        assert [entry["images_seen"] for entry in entries] == list(range(800, 6_401, 800))


@pytest.mark.slow
def test_a_trial_of_two_workers_equals_two_launched_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", search={"seed": {"grid": [5]}}, max_images=160)
    options = ["--workers_per_trial", "2", "--cpus_per_trial", "2", "--num_cpus", "2"]
    run(command(space, tiny_dataset, tmp_path / "out", *options), SWEEP_SEC)
    (record,) = read_ledger(tmp_path / "out")
    trial = tmp_path / "out" / "trials" / record.name
    assert "2 process(es)" in (trial / "train.log").read_text()
    own = {"data": str(tiny_dataset), "run": str(tmp_path / "run"), "seed": 5, "max_images": 160}
    run(launch(2, TRAIN, "vae", *as_arguments(TINY | own | {"monitor.validate_every_images": 64})))
    assert_bitwise_equal(final_weights(trial), final_weights(tmp_path / "run"))
    validated = [
        [line for line in json_lines(run_dir / "metrics.jsonl") if "val/mse" in line]
        for run_dir in (trial, tmp_path / "run")
    ]
    assert validated[0] == validated[1]


def wait_for(attempt: Callable[[], None], timeout_sec: float = 240) -> None:
    """Repeats an attempt until it raises no connection error."""
    deadline = time.monotonic() + timeout_sec
    while True:
        try:
            return attempt()
        except OSError:
            assert time.monotonic() < deadline, "Ray does not answer"
            time.sleep(1)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Address and processes of a Ray cluster on this machine: a head and a second node, each with one CPU."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray is not None
    # A short path, since it contains sockets.
    home = Path("/tmp") / f"ray_{os.getpid()}"
    port = 20_000 + os.getpid() % 10_000
    options = ["--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--disable-usage-stats", "--block"]
    head = [ray, "start", "--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(home)]
    nodes = [subprocess.Popen(head + options, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)]
    ip = get_node_ip_address()
    address = f"{ip}:{port}"
    try:
        wait_for(lambda: socket.create_connection((ip, port), 1).close())
        second = [ray, "start", "--address", address]
        nodes.append(
            subprocess.Popen(second + options, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        )
        joined = f"""
import ray, time
while not ray.is_initialized():
    try:
        ray.init({address!r}, log_to_driver=False)
    except Exception:  # The head answers before its own node has joined.
        time.sleep(2)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(1)
"""
        subprocess.run([sys.executable, "-c", joined], env=environment(), check=True, timeout=240)
        yield address, nodes
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
def test_a_cluster_of_two_nodes_trains_two_trials_at_once_and_may_lose_a_node(
    cluster, tiny_dataset: Path, tmp_path: Path
) -> None:
    address, nodes = cluster
    space = write_space(
        tmp_path / "space.yaml",
        max_images=48_000,
        evaluate_every_images=800,
        options={"monitor.log_every_images": 10**9},
    )
    program = command(space, tiny_dataset, tmp_path / "out", "--address", address)
    process = subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reported: set[str] = set()
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if " images | score " in line:
            reported.add(line.split(":")[0].strip())
        if len(reported) == 2:
            break
    assert not any("finished" in line for line in lines), "both trials must run at once"
    nodes[1].terminate()
    rest, errors = process.communicate(timeout=500)
    assert process.returncode == 0, "".join(lines) + rest + errors
    records = read_ledger(tmp_path / "out")
    assert [(record.status, record.images_seen) for record in records] == [("finished", 48_000)] * 2
    assert sum(record.num_failures for record in records) <= 1
    begun = starts(tmp_path / "out")
    assert sum(len(images) for images in begun.values()) == 3  # One trial resumed on the other node.
    assert sum(images.count(0) for images in begun.values()) == 2
