"""Two machines that read one data set over HTTP: two processes, each with a cache of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shards.dataset.dataset import Dataset
from shards.loading import loader as loaders
from shards.loading import order
from shards.loading.loader import TrainLoader
from tests.helpers.unreliable_server import serving

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Fetched:
    """What two machines fetched and read."""

    canonical_nodes: int
    times_the_data: float
    """Bytes of both per epoch, over those of the split."""
    rows: list[list[list[int]]]
    """Of each machine, of each epoch."""


def read_on_two_hosts(
    data: Path, work: Path, canonical_nodes: int, *, epochs: int, batch_size: int, scale: int
) -> Fetched:
    """Reads some epochs on two machines, each with a cache of a quarter of the data.

    Args:
        data: Folder of the data set, whose shards are smaller than a request.
        work: Folder of the caches.
        canonical_nodes: Lanes of the order.
        epochs: How many.
        batch_size: Global batch size.
        scale: Divides the sizes of a block and of a read, so that a small data set has as many as one of its size times
            this.
    """
    sizes = {shard.name: shard.num_bytes for shard in Dataset(data).shards("train")}
    with serving(data) as server:
        hosts = []
        for rank in range(2):
            options = [server.url, rank, canonical_nodes, epochs, batch_size, scale]
            environment = os.environ | {
                "PYTHONPATH": str(ROOT),
                "FACEGEN_CACHE": str(work / f"cache_{canonical_nodes}_{rank}"),
                "FACEGEN_SHARD_CACHE_GB": str(sum(sizes.values()) / 4 / 1e9),
            }
            command = [sys.executable, "-m", __spec__.name, json.dumps(options)]
            hosts.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        outputs = [host.communicate()[0] for host in hosts]
        assert [host.returncode for host in hosts] == [0, 0], outputs
        fetched = sum(sizes.get(name, 0) for name in server.requests)
    return Fetched(canonical_nodes, fetched / epochs / sum(sizes.values()), [json.loads(output) for output in outputs])


def _read(address: str, rank: int, canonical_nodes: int, epochs: int, batch_size: int, scale: int) -> list[list[int]]:
    """The rows of each epoch on one machine."""
    order.TARGET_BLOCK_UNITS //= scale
    loaders._READ_IMAGES //= scale
    loader = TrainLoader(
        Dataset(address),
        "train",
        global_batch_size=batch_size,
        seed=0,
        rank=rank,
        world_size=2,
        local_world_size=1,
        canonical_nodes=canonical_nodes,
        num_threads=1,
        prefetch_batches=1,
    )
    batches = iter(loader)
    return [[row for _ in range(loader.steps_per_epoch) for row in next(batches).rows.tolist()] for _ in range(epochs)]


if __name__ == "__main__":
    print(json.dumps(_read(*json.loads(sys.argv[1]))))
