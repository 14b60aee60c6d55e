"""Packing on a Ray cluster of two nodes on this machine: same bytes, lost nodes, a killed driver."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.index import verify
from shards.packing.pack import pack

pytest.importorskip("ray")
import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

REPO = Path(__file__).parents[3]
NUM_IMAGES = 240
OPTIONS: dict[str, Any] = {"size": 96, "codec": "png", "samples_per_shard": 4}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        noise = np.random.default_rng(number).integers(0, 256, (160, 160, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:04d}.png", compress_level=0)
    return folder


@pytest.fixture(scope="module")
def here(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as one machine with one worker packs it."""
    output = tmp_path_factory.mktemp("here") / "data"
    pack("folder", images, output, workers=1, **OPTIONS)
    return output


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(cluster: Cluster, images: Path, output: Path) -> subprocess.Popen[str]:
    """The command, and at least one shard."""
    command = [sys.executable, "-m", "shards.pack", "folder", str(images), str(output), "--address", cluster.address]
    command += [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not list(output.glob(".packing/*.tar.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def test_a_node_and_the_driver_are_killed_half_way(cluster: Cluster, images: Path, here: Path, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    output = tmp_path / "data"
    process = start(cluster, images, output)
    cluster.remove_node(node, allow_graceful=False)
    num_before = len(list(output.glob(".packing/*.tar.json")))
    deadline = time.monotonic() + 120
    while len(list(output.glob(".packing/*.tar.json"))) < num_before + 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "dataset.json").exists()

    again = start(cluster, images, output)
    printed = again.communicate(timeout=300)[0]
    assert again.returncode == 0, printed
    assert "Resuming: " in printed and f"Ray cluster {cluster.address}" in printed
    assert contents(output) == contents(here)


def test_shards_are_verified_there(cluster: Cluster, here: Path, tmp_path: Path) -> None:
    assert verify(Dataset(here), cluster.address) == []
    damaged = tmp_path / "damaged"
    shutil.copytree(here, damaged)
    victims = sorted(damaged.glob("*.tar"))[3:5]
    content = victims[0].read_bytes()
    victims[0].write_bytes(content[:700] + b"x" + content[701:])
    victims[1].unlink()
    findings = verify(Dataset(damaged), cluster.address)
    assert findings == [f"{victims[0]} is damaged: its checksum differs.", f"{victims[1]} is missing."]


def test_no_cluster_and_no_shared_folder(
    cluster: Cluster, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="cannot reach Ray at 127.0.0.1:1"):
        pack("folder", images, tmp_path / "data", address="127.0.0.1:1", **OPTIONS)
    # As if the workers' disks were others: the folder is not where they look.
    monkeypatch.setattr(
        "shards.packing.workspace.Workspace.begin", lambda workspace, spec: shutil.rmtree(tmp_path / "other")
    )
    with pytest.raises(UserError, match="does not see .*all machines that write need the same folder"):
        pack("folder", images, tmp_path / "other", address=cluster.address, **OPTIONS)
