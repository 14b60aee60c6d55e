"""How well single dims stand for single factors: ``python -m eval.disentanglement RUN [RUN ...] --data DIR``.

Prints MIG, DCI, SAP and the FactorVAE score of each run, and which dim tells each factor best. Needs a data set whose
factors are known: rendered faces (``python -m shards.pack synthetic``), or labels chosen with ``--factors``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from eval.factors.dci import dci
from eval.factors.known import ground_truth, read_factors
from eval.factors.scores import Factors, active_dims, factor_vae_score, mig, mutual_information, sap
from eval.metrics.latent_usage import ACTIVE_VARIANCE
from facegen.model import Model, load
from facegen.pixels import to_float
from shards.base import cli
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.loading.reader import check_split

MIN_IMAGES = 500
"""Below this many images the bins of a factor hold too few for the measures to mean anything."""


@dataclass
class DisentanglementConfig:
    """Options of the measurement."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories."""
    data: str
    """Packed data set to measure on; images in which the factors are independent, so no groups."""
    split: str = "test"
    """Split to measure on."""
    factors: list[str] | None = None
    """Labels to take for the factors, such as [smile,yaw]; all independent ones of rendered faces when null."""
    num_images: int | None = None
    """Use only the first this many images of the split; all when null."""
    batch_size: int = 64
    """Images per pass."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; the average where there is one when null."""
    seed: int = 0
    """Seed of the forests and the votes."""
    out: str | None = None
    """JSON file for the numbers."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}.")


@dataclass(frozen=True)
class BestDim:
    """The dim that tells most about a factor.

    Attributes:
        dim: Its number.
        information: What it tells, in nats.
        gap: By how much that is more than what the second best dim tells, as a share of the factor's entropy.
        r2: Squared correlation of dim and factor; of a class's position it means little.
    """

    dim: int
    information: float
    gap: float
    r2: float


@dataclass(frozen=True)
class Disentanglement:
    """The scores of one model on K factors.

    Attributes:
        num_active: Dims that are used; the scores look at no others.
        best: By factor.
    """

    num_active: int
    mig: float
    dci_disentanglement: float
    dci_completeness: float
    dci_informativeness: float
    sap: float
    factor_vae: float
    best: dict[str, BestDim]


SCORES = {
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "sap": "SAP",
    "factor_vae": "FactorVAE score",
}


def measure(mu: np.ndarray, factors: Factors, seed: int = 0) -> Disentanglement:
    """All scores of the latents mu, (N, L), of images with known factors.

    Raises:
        UserError: Too few images, or a model without a dim that is used.
    """
    if len(mu) < MIN_IMAGES:
        raise UserError(f"disentanglement needs at least {MIN_IMAGES} images, there are {len(mu)}.")
    dims = active_dims(mu)
    if not len(dims):
        raise UserError(f"no latent dim is active (variance of mu above {ACTIVE_VARIANCE}).")
    latents = mu[:, dims].astype(np.float64)
    information, gaps = mutual_information(latents, factors), mig(latents, factors)
    best = {
        name: BestDim(
            int(dims[position]),
            float(information[position, number]),
            float(gaps[number]),
            float(np.corrcoef(latents[:, position], factors.values[:, number])[0, 1] ** 2),
        )
        for number, (name, position) in enumerate(zip(factors.names, information.argmax(axis=0), strict=True))
    }
    forest = dci(latents, factors, seed)
    return Disentanglement(
        num_active=len(dims),
        mig=float(gaps.mean()),
        dci_disentanglement=forest.disentanglement,
        dci_completeness=forest.completeness,
        dci_informativeness=forest.informativeness,
        sap=float(sap(latents, factors).mean()),
        factor_vae=factor_vae_score(latents, factors, seed),
        best=best,
    )


@torch.inference_mode()
def latents_of(model: Model, dataset: Dataset, split: str, num_images: int, batch_size: int) -> np.ndarray:
    """Posterior means of the first images of a split, float32 (N, L)."""
    batches = evaluation_batches(dataset, split, batch_size, limit=num_images)
    return np.concatenate([model.encode(to_float(batch.images), batch.labels).numpy() for batch in batches])


def main() -> None:
    """The entry point."""
    config = cli.parse(
        DisentanglementConfig,
        prog="python -m eval.disentanglement",
        description="Measures how well single latent dims stand for single factors, on images whose factors are known.",
        positional=["runs"],
    )
    dataset = Dataset(config.data)
    check_split(dataset, config.split)
    names = config.factors or ground_truth(dataset)
    if not names:
        raise UserError(f"{config.data} holds no rendered faces, so its factors are not known; name labels: --factors.")
    available = dataset.num_samples(config.split)
    num_images = min(config.num_images or available, available)
    factors = read_factors(dataset, config.split, num_images, names)
    results = {}
    for path in config.runs:
        model = load(path, weights=config.weights)
        mu = latents_of(model, dataset, config.split, num_images, config.batch_size)
        results[path] = measure(mu, factors, config.seed)
    if config.out:
        Path(config.out).write_text(json.dumps({path: asdict(result) for path, result in results.items()}, indent=1))
    print(
        f"{num_images:,} images of {config.data} ({dataset.fingerprint}), {config.split}; {len(factors.names)} factors"
    )
    print(_table(results))


def _table(results: dict[str, Disentanglement]) -> str:
    """A column a run."""
    rows = [["", *results], ["active dims", *(str(result.num_active) for result in results.values())]]
    rows += [[title, *(f"{getattr(result, key):.3f}" for result in results.values())] for key, title in SCORES.items()]
    for factor in next(iter(results.values())).best:
        best = [result.best[factor] for result in results.values()]
        rows.append([factor, *(f"dim {it.dim}, gap {it.gap:.3f}, R2 {it.r2:.3f}" for it in best)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


if __name__ == "__main__":
    cli.run(main)
