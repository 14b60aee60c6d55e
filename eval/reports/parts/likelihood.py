"""KL, ELBO and bits per dim, of models with a posterior."""

from __future__ import annotations

from typing import Any

from eval.metrics.elbo import ElboSums, bits_per_dim, posterior_noise
from eval.reports.part import Measures, Part, missing
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext
from eval.reports.statistic import USAGE, SplitBatch, Statistic
from facegen.losses.vae import kl_per_dim, reconstruction_error, reparameterize

GROUP = "Likelihood"
_ELBO_ROWS = (
    Metric("elbo", "ELBO", GROUP, "nats/image", "higher", ".1f", "Gaussian decoder, one posterior draw per image"),
    Metric("bits_per_dim", "Bits per dim", GROUP, "bits", "lower", ".4f", "-ELBO per pixel value of 256 levels"),
    Metric("decoder_variance", "Decoder variance", GROUP, "", "", ".4g", "sigma^2 of the ELBO, set by the KL weight"),
    Metric("best_bits_per_dim", "Bits per dim, best variance", GROUP, "bits", "lower", ".4f", "at the variance below"),
    Metric("best_variance", "Best decoder variance", GROUP, "", "", ".4g", "mean squared error of posterior draws"),
)
ROWS = (
    Metric("kl", "KL", GROUP, "nats/image", "", ".2f", "of the posterior from N(0, I), summed over dims"),
    Metric("kl_per_dim", "KL per dim", GROUP, "nats", "", ".4f", "mean over latent dims"),
    *_ELBO_ROWS,
)


def _start(model: Any, _: object) -> ElboSums | None:
    if model.decoder_variance is None:
        return None
    channels, height, width = model.image_shape
    return ElboSums(channels * height * width)


def _add(sums: ElboSums, batch: SplitBatch) -> None:
    mu, logvar = batch.posterior
    assert logvar is not None
    noise = posterior_noise(batch.report.protocol.seed, batch.rows, mu.shape[1]).to(mu.device)
    drawn = batch.decode(reparameterize(mu, logvar, noise))
    kl = kl_per_dim(mu.cpu().double(), logvar.cpu().double()).sum(dim=1)
    squared_error = reconstruction_error(batch.images.cpu().double(), drawn.cpu().double(), "sum")
    sums.update(kl.numpy(), squared_error.numpy())


ELBO = Statistic(_start, _add, lambda sums: sums, ("encode", "decode", "posterior"))


def measure(run: RunContext) -> Measures:
    """KL of the posterior, and the ELBO where the decoder has a likelihood."""
    kl, sums = run[USAGE].kl, run.get(ELBO)
    assert kl is not None
    measures = {"kl": Measure(float(kl.sum())), "kl_per_dim": Measure(float(kl.mean()))}
    if sums is None:
        reason = f"the objective of {run.family} has no Gaussian likelihood"
        return measures | missing([row.key for row in _ELBO_ROWS], reason)
    variance, best = run.model.decoder_variance, sums.best_variance
    return measures | {
        "elbo": Measure(sums.elbo(variance)),
        "bits_per_dim": Measure(bits_per_dim(sums.elbo(variance), sums.num_values)),
        "decoder_variance": Measure(variance),
        "best_bits_per_dim": Measure(bits_per_dim(sums.elbo(best), sums.num_values)),
        "best_variance": Measure(best),
    }


PARTS = [
    Part(
        name="likelihood",
        content="KL, ELBO and bits per dim",
        rows=ROWS,
        summary=("kl",),
        measure=measure,
        needs=("encode", "posterior"),
        lacking="has no posterior, so no KL and no ELBO",
        statistics=(USAGE, ELBO),
    )
]
