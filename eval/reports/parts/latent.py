"""How the latent dims are used: numbers, and charts of variances and histograms."""

from __future__ import annotations

import numpy as np

from eval.drawing import charts
from eval.metrics.latent_usage import LatentUsage
from eval.reports.part import Drawing, Measures, Part, RunPicture, missing
from eval.reports.results import LatentColumn, Measure, Metric
from eval.reports.run_context import RunContext
from eval.reports.statistic import LATENTS, USAGE
from facegen.latents.latent_stats import ACTIVE_VARIANCE
from facegen.losses.vae import COLLAPSE_NATS_PER_DIM

GROUP = "Latent space"
_OF_PAIRS = "of mu, pairs of dims that are active by variance"
_ACTIVE = f"variance of mu above {ACTIVE_VARIANCE:g}"
_WITH_KL = f"mean KL above {COLLAPSE_NATS_PER_DIM:g} nats; training logs it for batches"
ROWS = (
    Metric("active_units", "Active dims, by variance", GROUP, "dims", "", ".0f", _ACTIVE),
    Metric("dims_with_kl", "Dims with KL", GROUP, "dims", "", ".0f", _WITH_KL),
    Metric("latent_size", "Latent size", GROUP, "dims", "", ".0f"),
    Metric("effective_dims", "Effective dims", GROUP, "dims", "", ".1f", "exp(entropy of the variances of mu)"),
    Metric("ks_mean", "KS from N(0, 1), mean", GROUP, "", "lower", ".4f", "aggregated posterior, over dims"),
    Metric("ks_max", "KS from N(0, 1), worst", GROUP, "", "lower", ".4f", "aggregated posterior, worst dim"),
    Metric("correlation_mean", "|Correlation|, mean", GROUP, "", "lower", ".4f", _OF_PAIRS),
    Metric("correlation_max", "|Correlation|, worst", GROUP, "", "lower", ".4f", _OF_PAIRS),
)


def measure(run: RunContext) -> Measures:
    """The numbers over all dims; those of each dim go into the result's ``latent``."""
    usage = run[USAGE]
    run.result.latent = per_dim(usage)
    note = "" if usage.kl is not None else f"{run.family} is not trained towards N(0, 1)"
    measures = {
        "active_units": Measure(usage.num_active),
        "dims_with_kl": Measure(usage.num_with_kl, reason=note),
        "latent_size": Measure(len(usage.variance)),
        "effective_dims": Measure(usage.effective_dims),
        "ks_mean": Measure(float(usage.ks.mean()), note=note),
        "ks_max": Measure(float(usage.ks.max()), note=note),
    }
    pairs = usage.off_diagonal
    if not len(pairs):
        return measures | missing(["correlation_mean", "correlation_max"], "fewer than two dims are active")
    return measures | {
        "correlation_mean": Measure(float(pairs.mean())),
        "correlation_max": Measure(float(pairs.max())),
    }


def per_dim(usage: LatentUsage) -> dict[LatentColumn, list[float]]:
    """The columns of the result's ``latent``."""
    columns: dict[LatentColumn, np.ndarray] = {"mean": usage.mean, "variance": usage.variance, "ks": usage.ks}
    if usage.kl is not None:
        columns["kl"] = usage.kl
    return {name: values.tolist() for name, values in columns.items()}


def variance_chart(run: RunContext) -> Drawing:
    """How much each dim is used."""
    usage = run[USAGE]
    caption = "How much each dim varies over images" + (", and what it costs in KL." if usage.kl is not None else ".")
    return Drawing(charts.latent_bars(usage), caption)


def histogram_chart(run: RunContext) -> Drawing:
    """The most active dims against N(0, 1)."""
    usage = run[USAGE]
    caption = f"The {min(charts.NUM_HISTOGRAMS, len(usage.variance))} most active dims against N(0, 1)."
    return Drawing(charts.latent_histograms(usage, run[LATENTS]), caption)


PARTS = [
    Part(
        name="latent",
        content="usage of the latent dims, its charts and histograms",
        rows=ROWS,
        summary=("active_units",),
        measure=measure,
        needs=("encode",),
        statistics=(USAGE, LATENTS),
        group=GROUP,
        pictures=(
            RunPicture("latent_variance.svg", "Latent variance", variance_chart),
            RunPicture("latent_histograms.svg", "Latent histograms", histogram_chart),
        ),
    )
]
