"""What data sets of a million to a billion samples cost: plan, opening, loading, and the index behind an address.

    python -m tests.benchmarks.scale [--samples '[1000000,...]'] [--parts '[planning,folder,address]'] [--work DIR]

Shards are without content (sparse files), so that a billion samples need 17 GB of disk, for their index. Parts that are
not measured keep their results in scale.json, from which scale.md is made.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from shards.command_line.cli import parse, run
from shards.loading.order import default_canonical_nodes
from tests.benchmarks.locality import speed
from tests.benchmarks.scale import loading
from tests.benchmarks.scale.synthetic import SAMPLES_PER_SHARD, make_dataset
from tests.benchmarks.tables import Rows, record
from tests.helpers.unreliable_server import serving


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    samples: list[int] = field(default_factory=lambda: [10**6, 10**7, 10**8, 10**9])
    """Sizes of the data sets, multiples of 10,000."""
    parts: list[str] = field(default_factory=lambda: ["planning", "folder", "address"])
    """What to measure."""
    work: Path | None = None
    """Folder for the data sets; a temporary one by default."""
    out: Path = Path(__file__).resolve().parents[1] / "results"
    """Folder for scale.md and scale.json."""


def planning(config: Config, work: Path) -> Rows:
    """One of 64 processes plans batches of 256 in as many lanes as the loader chooses. CPU seconds."""
    found = []
    for num_samples in config.samples:
        num_shards = num_samples // SAMPLES_PER_SHARD
        lanes = default_canonical_nodes(np.full(num_shards, SAMPLES_PER_SHARD), 256)
        found.append({"samples": num_samples, **asdict(speed.measure_planning(lanes, 64, num_shards))})
    return found


def folder(config: Config, work: Path) -> Rows:
    """A process opens a folder and loads 400 batches of 256 images and a label."""
    return [
        _measured(work, num_samples, lambda root: _alone(str(root), 0, 1, ["smile"])) for num_samples in config.samples
    ]


def address(config: Config, work: Path) -> Rows:
    """One of 64 processes loads its 4 images of each batch over HTTP, without the label, from an empty cache."""
    return [_measured(work, number, lambda root: _over_http(root, work)) for number in config.samples]


PARTS: dict[str, Callable[[Config, Path], Rows]] = {"planning": planning, "folder": folder, "address": address}


def _measured(work: Path, num_samples: int, measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    root = work / f"samples_{num_samples}"
    try:
        index_bytes = make_dataset(root, num_samples)
        return {"samples": num_samples, "index_gb": round(index_bytes / 1e9, 3), **measure(root)}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _over_http(root: Path, work: Path) -> dict[str, Any]:
    cache = work / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["FACEGEN_CACHE"] = str(cache)
    with serving(root) as server:
        found = _alone(server.url, 63, 64, [])
        del found["images_per_cpu_sec"]  # Of which most is fetching ahead.
        sent, num_shards = server.sent, sum(name.endswith(".tar") for name in server.sent)
        return found | {
            "shards": num_shards,
            "index_requests": server.requests.count("index.safetensors"),
            "index_sent_mb": round(sent["index.safetensors"] / 1e6, 2),
            "manifest_mb": round(os.path.getsize(root / "dataset.json") / 1e6, 1),
        }


def _alone(*args: Any) -> dict[str, Any]:
    """Loads in a new process, whose memory is that of the loader."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return asdict(pool.submit(loading.load, *args).result())


def main() -> None:
    """Measures, writes and prints the tables."""
    # Without arguments the parser would print its help.
    arguments = sys.argv[1:] or [f"--out={Config.out}"]
    config = parse(Config, prog="python -m tests.benchmarks.scale", description=__doc__ or "", args=arguments)
    with tempfile.TemporaryDirectory(dir=config.work) as work:
        measured = {part: PARTS[part](config, Path(work)) for part in config.parts}
    about = "Made by `python -m tests.benchmarks.scale`."
    record(config.out / "scale", "Up to a billion samples", about, PARTS, measured)


if __name__ == "__main__":
    run(main)
