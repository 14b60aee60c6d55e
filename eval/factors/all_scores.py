"""All scores of disentanglement of one model, and the dim that tells most about each factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.factors.dci import dci
from eval.factors.scores import KnownFactors, active_dims, factor_vae_score, mig, mutual_information, sap
from eval.metrics.latent_usage import ACTIVE_VARIANCE
from shards.base.errors import UserError

MIN_IMAGES = 500
"""Below this many images the bins of a factor hold too few for the measures to mean anything."""


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


def measure_factors(mu: np.ndarray, factors: KnownFactors, seed: int = 0) -> Disentanglement:
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
