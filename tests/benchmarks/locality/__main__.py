"""What an order in lanes saves and costs: traffic of many machines, planning, loading, and the trained model.

    python -m tests.benchmarks.locality [--parts '[traffic,evaluation,hosts,planning,loading,training]'] [--data DIR]

Parts that are not measured keep their results in locality.json, from which locality.md is made.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from tests.benchmarks.loader import pack_pictures
from tests.benchmarks.locality import hosts, simulation, speed, training
from tests.benchmarks.tables import Rows, record


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    parts: list[str] = field(
        default_factory=lambda: ["traffic", "evaluation", "hosts", "planning", "loading", "training"]
    )
    """What to measure."""
    data: Path | None = None
    """A data set of many shards with the splits train and val, for loading and training; without it, both are left
    out."""
    out: Path = Path(__file__).resolve().parents[1] / "results"
    """Folder for locality.md and locality.json."""


def traffic(config: Config, work: Path) -> Rows:
    """Shards per machine and bytes in all; a simulation."""
    return [
        asdict(row) for shards in (1_000, 100_000) for lanes in (1, 64) for row in simulation.simulate(shards, lanes)
    ]


def evaluation(config: Config, work: Path) -> Rows:
    """Shards per machine and in all of a pass over a split in batches of 64; a simulation."""
    return [asdict(row) for shards in (64, 1_000) for row in simulation.simulate_evaluation(shards)]


def two_hosts(config: Config, work: Path) -> Rows:
    """Bytes that two processes fetch over HTTP, each with a cache of a quarter of the data; three epochs."""
    data = work / "pictures"
    data.mkdir()
    pack_pictures(data, num_images=8_192, images_per_shard=64, size=16)
    options = {"epochs": 3, "batch_size": 64, "scale": 64}
    found = [hosts.read_on_two_hosts(data, work, lanes, **options) for lanes in (1, 2, 8)]
    return [{"canonical_nodes": row.canonical_nodes, "times_the_data": round(row.times_the_data, 3)} for row in found]


def planning(config: Config, work: Path) -> Rows:
    """A billion samples in 100,000 shards, batches of 256."""
    return [asdict(speed.measure_planning(lanes, ranks)) for lanes, ranks in ((1, 1), (64, 1), (64, 64))]


def loading(config: Config, work: Path) -> Rows:
    """Images per second of CPU time, batches of 256, interleaved rounds."""
    return [asdict(row) for row in speed.load(str(config.data), (1, 8, 64), rounds=5)] if config.data else []


def trainings(config: Config, work: Path) -> Rows:
    """Held-out MSE of a small autoencoder after 4,000 images."""
    if config.data is None:
        return []
    return [asdict(training.train(config.data, work, lanes, seed)) for lanes in (1, 8) for seed in range(3)]


PARTS: dict[str, Callable[[Config, Path], Rows]] = {
    "traffic": traffic,
    "evaluation": evaluation,
    "hosts": two_hosts,
    "planning": planning,
    "loading": loading,
    "training": trainings,
}


def main() -> None:
    """Measures, writes and prints the tables."""
    # Without arguments the parser would print its help.
    arguments = sys.argv[1:] or [f"--out={Config.out}"]
    config = parse(Config, prog="python -m tests.benchmarks.locality", description=__doc__ or "", args=arguments)
    unknown = sorted(set(config.parts) - set(PARTS))
    if unknown:
        raise UserError(f"there is no part '{unknown[0]}'; there are {', '.join(PARTS)}.")
    with tempfile.TemporaryDirectory() as work:
        measured = {part: PARTS[part](config, Path(work)) for part in config.parts}
    about = "Made by `python -m tests.benchmarks.locality`. One lane is the order of release 0.1."
    record(config.out / "locality", "Order in lanes", about, PARTS, measured)


if __name__ == "__main__":
    run(main)
