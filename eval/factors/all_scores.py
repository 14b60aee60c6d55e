"""All disentanglement scores of a model, and the most informative dim for each factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.factors.dci import dci
from eval.factors.scores import KnownFactors, active_dims, factor_vae_score, mig, mutual_information, sap
from eval.metrics.latent_usage import ACTIVE_VARIANCE
from shards.base.errors import UserError

MIN_IMAGES = 500
"""With fewer images the bins of a factor hold too few for the scores to mean anything."""


@dataclass(frozen=True)
class BestDim:
    """The most informative dim for a factor.

    Attributes:
        dim: Number of the dim.
        information: Its mutual information with the factor, in nats.
        gap: How much more that is than the second best dim's, as a share of the factor's entropy.
        r2: Squared correlation of dim and factor; means little for a class.
    """

    dim: int
    information: float
    gap: float
    r2: float


@dataclass(frozen=True)
class Disentanglement:
    """The scores of one model on K factors.

    Attributes:
        num_active: Number of active dims, the only ones that the scores use.
        best: Most informative dim by factor.
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
    """Computes all scores from the latents mu, (N, L), of images with known factors.

    Raises:
        UserError: Too few images, or no active dim.
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
