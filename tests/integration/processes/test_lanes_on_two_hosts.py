"""Two machines with small caches: in lanes they fetch the data about once an epoch, in one lane each fetches all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.dataset.dataset import Dataset
from shards.pack import main as pack
from tests.benchmarks.locality.hosts import read_on_two_hosts

EPOCHS, BATCH_SIZE = 3, 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lanes") / "faces"
    pack(
        [
            "synthetic",
            str(root),
            "--num",
            "480",
            "--val_fraction",
            "0.05",
            "--test_fraction",
            "0.05",
            "--size",
            "16",
            "--samples_per_shard",
            "8",
            "--workers",
            "1",
        ]
    )
    return root


@pytest.mark.parametrize(("canonical_nodes", "least", "most"), [(1, 1.5, 2.1), (2, 0.7, 1.2), (8, 0.7, 1.2)])
def test_bytes_that_two_machines_fetch(
    data: Path, tmp_path: Path, canonical_nodes: int, least: float, most: float
) -> None:
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "scale": 1400}
    fetched = read_on_two_hosts(data, tmp_path, canonical_nodes, **options)
    assert least < fetched.times_the_data <= most
    num_samples = Dataset(data).num_samples("train")
    for epoch in range(EPOCHS):
        rows = np.concatenate([host[epoch] for host in fetched.rows])
        assert len(np.unique(rows)) == len(rows) == num_samples // BATCH_SIZE * BATCH_SIZE
