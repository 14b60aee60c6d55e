"""How well single latent dims stand for single factors, where all factors of the images are known."""

from __future__ import annotations

from eval.factors.all_scores import SCORES, measure_factors
from eval.factors.known import ground_truth, read_factors
from eval.reports.part import Measures, Part, missing
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext
from eval.reports.statistic import LATENTS
from shards.base.errors import UserError

MAX_IMAGES = 5000
"""Images whose latents are looked at: boosted trees of more take long."""
_HELP = {
    "mig": "information of the best dim less the second best",
    "dci_disentanglement": "one factor a dim",
    "dci_completeness": "one dim a factor",
    "dci_informativeness": "factors from mu",
    "sap": "variance explained by the best dim less the second",
    "factor_vae": "fixed factor told by one dim",
}
ROWS = tuple(Metric(key, title, "Disentanglement", "", "higher", ".3f", _HELP[key]) for key, title in SCORES.items())


def measure(run: RunContext) -> Measures:
    """MIG, DCI, SAP and the FactorVAE score of the first images of the split."""
    mu, dataset = run[LATENTS][:MAX_IMAGES], run.protocol.dataset
    names = ground_truth(dataset)
    if not names:
        return missing(list(SCORES), "only of rendered faces all factors are known")
    try:
        factors = read_factors(dataset, run.protocol.split, len(mu), names)
        scores = measure_factors(mu, factors)
    except UserError as error:
        return missing(list(SCORES), str(error).rstrip("."))
    note = f"mean over {len(factors.names)} factors, {len(mu):,} images"
    return {key: Measure(getattr(scores, key), note=note) for key in SCORES}


PARTS = [
    Part(
        name="disentanglement",
        content="MIG, DCI, SAP and the FactorVAE score where all factors are known",
        rows=ROWS,
        measure=measure,
        needs=("encode",),
        statistics=(LATENTS,),
    )
]
