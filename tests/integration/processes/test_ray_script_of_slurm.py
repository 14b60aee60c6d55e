"""The Slurm script for Ray packs on a real Ray of this machine; ``ray stop`` at its end stops every other Ray, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.index import verify

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent


def submit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as the only machine of a job."""
    programs = {"srun": '"$@"', "facegen": f'exec {sys.executable} -m facegen "$@"'}
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{PROGRAMS}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NNODES": "1",
        "SLURM_CPUS_ON_NODE": "2",
    }
    command = ["bash", "jobs/slurm/ray.sbatch", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_data_set_is_packed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    output = tmp_path / "data"
    options = ["--num", "24", "--size", "16", "--split_by", "sample", "--samples_per_shard", "8"]
    done = submit(tmp_path, "pack", "synthetic", str(output), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify(Dataset(output)) == []
