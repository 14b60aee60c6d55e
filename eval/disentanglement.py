"""How well single dims represent single factors: ``python -m eval.disentanglement RUN [RUN ...] --data DIR``.

Prints MIG, DCI, SAP and the FactorVAE score of each run, and the most informative dim for each factor. Needs a data set
with known factors: rendered faces (``python -m shards.pack synthetic``), or labels chosen with ``--factors``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from eval.factors.all_scores import SCORES, Disentanglement, measure_factors
from eval.factors.known import ground_truth, read_factors
from facegen.degrees import condition_fields
from facegen.model import Model, load
from facegen.pixels import to_float
from shards.base.errors import UserError
from shards.base.files import check_writable, write_bytes, writing_to
from shards.base.progress import ProgressLine
from shards.command_line import cli
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.loading.loader import evaluation_batches
from shards.loading.reader import check_split


@dataclass
class DisentanglementConfig:
    """Options of a measurement of disentanglement."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories."""
    data: str
    """Packed data set to measure on; the factors of its images must be independent, so no groups."""
    split: str = "test"
    """Split to measure on."""
    factors: list[str] | None = None
    """Labels to use as factors, such as [smile,yaw]; null takes all independent factors of rendered faces."""
    num_images: int | None = None
    """Use only this many images, the first of the split; null takes all."""
    batch_size: int = 64
    """Images per batch."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; null takes the average if there is one."""
    seed: int = 0
    """Seed of forests and votes."""
    out: str | None = None
    """JSON file for the numbers."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}.")


@torch.inference_mode()
def latents_of(model: Model, dataset: Dataset, split: str, num_images: int, batch_size: int) -> np.ndarray:
    """Posterior means of the first images of a split, float32 (N, L)."""
    fields = condition_fields(model.condition, dataset)
    latents = []
    with ProgressLine(f"latents of {split}", num_images) as progress:
        for batch in evaluation_batches(dataset, split, batch_size, limit=num_images, fields=fields):
            latents.append(model.encode(to_float(batch.images), batch.labels).numpy())
            progress.update(len(batch.rows))
    return np.concatenate(latents)


def main() -> None:
    """The command line."""
    config = cli.parse(
        DisentanglementConfig,
        prog="python -m eval.disentanglement",
        description="Measures how well single latent dims represent single factors, on images whose factors are known.",
        positional=["runs"],
    )
    if config.out:
        check_writable(config.out)
    dataset = open_dataset(config.data)
    check_split(dataset, config.split)
    names = config.factors or ground_truth(dataset)
    if not names:
        raise UserError(f"{config.data} holds no rendered faces: its factors are unknown; name labels with --factors.")
    available = dataset.num_samples(config.split)
    num_images = min(config.num_images or available, available)
    factors = read_factors(dataset, config.split, num_images, names)
    results = {}
    for path in config.runs:
        model = load(path, weights=config.weights)
        mu = latents_of(model, dataset, config.split, num_images, config.batch_size)
        with ProgressLine(f"scores of {model.name}", unit="scores"):
            results[path] = measure_factors(mu, factors, config.seed)
    if config.out:
        content = {path: asdict(result) for path, result in results.items()}
        with writing_to(config.out):
            write_bytes(Path(config.out), json.dumps(content, indent=1).encode())
    print(
        f"{num_images:,} images of {config.data} ({dataset.fingerprint}), {config.split}; {len(factors.names)} factors"
    )
    print(_table(results))


def _table(results: dict[str, Disentanglement]) -> str:
    """A table with a column for each run."""
    rows = [["", *results], ["active dims, by variance", *(str(result.num_active) for result in results.values())]]
    rows += [[title, *(f"{getattr(result, key):.3f}" for result in results.values())] for key, title in SCORES.items()]
    for factor in next(iter(results.values())).best:
        best = [result.best[factor] for result in results.values()]
        rows.append([factor, *(f"dim {it.dim}, gap {it.gap:.3f}, R2 {it.r2:.3f}" for it in best)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


if __name__ == "__main__":
    cli.run(main)
