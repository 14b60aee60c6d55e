"""Held-out error after a short training in one lane and in many, over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import facegen
from facegen.runs.metrics_file import read_metrics

_OPTIONS = {
    "global_batch_size": 16,
    "max_images": 4_000,
    "model.latent_size": 64,
    "model.network.widths": [16, 32, 64, 64],
    "optim.warmup_images": 500,
    "monitor.validate_every_images": 4_000,
    "monitor.grid_every_images": 1_000_000,
    "checkpoint.every_images": 1_000_000,
}


@dataclass(frozen=True)
class Quality:
    """One run."""

    canonical_nodes: int
    seed: int
    mse: float
    """Of held-out images, on [-1, 1]."""


def train(data: Path, work: Path, canonical_nodes: int, seed: int) -> Quality:
    """Trains a small autoencoder."""
    run = work / f"nodes_{canonical_nodes}_seed_{seed}"
    options = _OPTIONS | {"loader.canonical_nodes": canonical_nodes, "seed": seed}
    facegen.train("ae", data=str(data), run=str(run), **options)
    [*_, mse] = [point["val/mse"] for point in read_metrics(run) if "val/mse" in point]
    return Quality(canonical_nodes, seed, round(float(mse), 5))
