"""A real Slurm on this machine: a job is submitted, warned, requeued, resumes on its own, and ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from facegen.runs.checkpoint import newest_complete
from launching import ROOT, TINY, TRAIN, environment, final_weights, launch, run
from slurm_node import SlurmNode, is_there, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(), reason="needs root and Slurm: apt-get install slurmctld slurmd munge"),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmNode]:
    root = Path(tempfile.mkdtemp(prefix="slurm"))
    node = SlurmNode(root)
    yield node
    node.close()
    shutil.rmtree(root, ignore_errors=True)


def submit(slurm: SlurmNode, log: Path, *arguments: str | Path) -> str:
    """Submits the shipped script for one process; returns the job's number."""
    settings = {"FACEGEN_LAUNCH": "jobs/accelerate/cpu_nodes.yaml", "FACEGEN_PROCESSES_PER_NODE": "1"}
    path = f"{Path(sys.executable).parent}:{slurm.environment['PATH']}"
    command = ["sbatch", "--parsable", "--nodes", "1", "--time", "20", f"--output={log}"]
    done = subprocess.run(
        [*command, "jobs/slurm/train.sbatch", *map(str, arguments)],
        cwd=ROOT,
        env=environment() | slurm.environment | settings | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def has_trained(run_dir: Path) -> bool:
    return newest_complete(run_dir / "checkpoints") is not None


def test_a_job_that_is_warned_saves_waits_and_resumes(slurm: SlurmNode, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 16, "--max_images", 24_000, *TINY]
    options += ["--checkpoint.every_images", 1_600, "--monitor.log_every_images", 1_600]
    log, run_dir = tmp_path / "job.out", tmp_path / "run"
    job = submit(slurm, log, *options, "--run", run_dir)
    wait_until(lambda: has_trained(run_dir), 120, "a checkpoint")
    # The signal that --signal=B:USR1@120 sends before the time limit.
    assert slurm.state(job) == "RUNNING"
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_until(lambda: slurm.field(job, "Restarts") == "1", 60, "the job to be queued again")
    stopped = newest_complete(run_dir / "checkpoints")
    assert stopped is not None
    seen = json.loads((stopped / "state.json").read_text())["images_seen"]
    assert 0 < seen < 24_000 and "saved; requeued" in log.read_text()
    # Slurm would wait two minutes before the next start.
    wait_until(lambda: slurm.state(job) == "PENDING", 60, "the job to wait")
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_until(lambda: slurm.state(job) == "COMPLETED", 240, "the end of the job")
    assert f"resumes at {seen:,}" in log.read_text()
    run(launch(1, TRAIN, *options, "--run", tmp_path / "whole"))
    whole, continued = final_weights(tmp_path / "whole"), final_weights(run_dir)
    assert all((whole[name] == continued[name]).all() for name in whole)


def test_a_cancelled_job_saves_and_stays_away(slurm: SlurmNode, tiny_dataset: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    options = ["--data", tiny_dataset, "--global_batch_size", 16, "--max_images", 10**7, *TINY, "--run", run_dir]
    options += ["--checkpoint.every_images", 10**6, "--monitor.log_every_images", 800]
    job = submit(slurm, tmp_path / "job.out", "vae", *options)
    wait_until(
        lambda: "images/s" in (tmp_path / "job.out").read_text() if (tmp_path / "job.out").exists() else False,
        120,
        "the first line",
    )
    assert not has_trained(run_dir)
    slurm.call("scancel", job)
    wait_until(lambda: slurm.state(job) == "CANCELLED", 60, "the job to be cancelled")
    wait_until(lambda: has_trained(run_dir), 40, "the checkpoint")
    assert slurm.field(job, "Restarts") == "0"


def test_a_job_whose_options_are_wrong_fails_with_one_sentence(slurm: SlurmNode, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path / "job.out", "vae", "--data", tmp_path / "nowhere", "--run", tmp_path / "run")
    wait_until(lambda: slurm.state(job) == "FAILED", 120, "the job to fail")
    assert f"error: {tmp_path / 'nowhere'} holds no complete data set" in (tmp_path / "job.out").read_text()
