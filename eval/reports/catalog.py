"""Every metric of the table, in its order, and what the distances of each feature space are called."""

from __future__ import annotations

from dataclasses import dataclass

from eval.reports.results import Metric


@dataclass(frozen=True)
class SpaceNames:
    """A feature space as tables name it, whether or not its weights are there."""

    name: str
    frechet: str
    kernel: str
    precision: str
    recall: str


SPACES = (
    SpaceNames("efflite0", "FD-EffLite0", "KD-EffLite0", "Precision-EffLite0", "Recall-EffLite0"),
    SpaceNames("inception", "FID", "KID", "Precision-Inception", "Recall-Inception"),
)

_RECONSTRUCTION = [
    Metric("mse", "MSE on [-1, 1]", "Reconstruction", "", "lower", ".5f", "mean squared error per value, from mu"),
    Metric("mse_unit", "MSE on [0, 1]", "Reconstruction", "", "lower", ".5f", "a quarter of the one on [-1, 1]"),
    Metric("psnr", "PSNR", "Reconstruction", "dB", "higher", ".2f", "mean over images, clamped to the pixel range"),
    Metric("ssim", "SSIM", "Reconstruction", "", "higher", ".4f", "mean over images, 11-pixel Gaussian window"),
]
_LIKELIHOOD = [
    Metric("kl", "KL", "Likelihood", "nats/image", "", ".2f", "of the posterior from N(0, I), summed over dims"),
    Metric("kl_per_dim", "KL per dim", "Likelihood", "nats", "", ".4f", "mean over latent dims"),
    Metric(
        "elbo", "ELBO", "Likelihood", "nats/image", "higher", ".1f", "Gaussian decoder, one posterior draw per image"
    ),
    Metric("bits_per_dim", "Bits per dim", "Likelihood", "bits", "lower", ".4f", "-ELBO per pixel value of 256 levels"),
    Metric(
        "decoder_variance", "Decoder variance", "Likelihood", "", "", ".4g", "sigma^2 of the ELBO, set by the KL weight"
    ),
    Metric(
        "best_bits_per_dim",
        "Bits per dim, best variance",
        "Likelihood",
        "bits",
        "lower",
        ".4f",
        "at the variance below",
    ),
    Metric(
        "best_variance", "Best decoder variance", "Likelihood", "", "", ".4g", "mean squared error of posterior draws"
    ),
]
_LATENT = [
    Metric("active_units", "Active units", "Latent space", "dims", "", ".0f", "variance of mu above 0.01"),
    Metric("latent_size", "Latent size", "Latent space", "dims", "", ".0f"),
    Metric(
        "effective_dims", "Effective dims", "Latent space", "dims", "", ".1f", "exp(entropy of the variances of mu)"
    ),
    Metric("ks_mean", "KS from N(0, 1), mean", "Latent space", "", "lower", ".4f", "aggregated posterior, over dims"),
    Metric("ks_max", "KS from N(0, 1), worst", "Latent space", "", "lower", ".4f", "aggregated posterior, worst dim"),
    Metric(
        "correlation_mean", "|Correlation|, mean", "Latent space", "", "lower", ".4f", "of mu, pairs of active dims"
    ),
    Metric(
        "correlation_max", "|Correlation|, worst", "Latent space", "", "lower", ".4f", "of mu, pairs of active dims"
    ),
]
_DISENTANGLEMENT = [
    Metric("mig", "MIG", "Disentanglement", "", "higher", ".3f", "information of the best dim less the second best"),
    Metric("dci_disentanglement", "DCI disentanglement", "Disentanglement", "", "higher", ".3f", "one factor a dim"),
    Metric("dci_completeness", "DCI completeness", "Disentanglement", "", "higher", ".3f", "one dim a factor"),
    Metric("dci_informativeness", "DCI informativeness", "Disentanglement", "", "higher", ".3f", "factors from mu"),
    Metric("sap", "SAP", "Disentanglement", "", "higher", ".3f", "variance explained by the best dim less the second"),
    Metric("factor_vae", "FactorVAE score", "Disentanglement", "", "higher", ".3f", "fixed factor told by one dim"),
]
_VERIFICATION = [
    Metric(
        "verification_accuracy",
        "Verification accuracy",
        "Verification of drawn pairs, cosine of mu",
        "%",
        "higher",
        ".2f",
        "at the threshold of the other folds, mean ± standard error; chance is 50",
    ),
    Metric(
        "verification_eer",
        "Equal error rate",
        "Verification of drawn pairs, cosine of mu",
        "%",
        "lower",
        ".2f",
        "false accepts are as frequent as false rejects",
    ),
    Metric(
        "verification_tar",
        "TAR at FAR 0.001",
        "Verification of drawn pairs, cosine of mu",
        "%",
        "higher",
        ".2f",
        "true accepts where one of 1,000 pairs of two people is accepted",
    ),
]
VERIFICATION_KEYS = tuple(metric.key for metric in _VERIFICATION)
RECONSTRUCTION_KEYS = tuple(metric.key for metric in _RECONSTRUCTION)
LIKELIHOOD_KEYS = tuple(metric.key for metric in _LIKELIHOOD)
LATENT_KEYS = tuple(metric.key for metric in _LATENT)
DISENTANGLEMENT_KEYS = tuple(metric.key for metric in _DISENTANGLEMENT)
_COST = [
    Metric("parameters", "Parameters", "Cost", "", "lower", "si"),
    Metric("encode_flops", "Encode", "Cost", "FLOPs/image", "lower", "si", "a multiply-add counts as two"),
    Metric("decode_flops", "Decode", "Cost", "FLOPs/image", "lower", "si", "a multiply-add counts as two"),
    Metric("encode_rate", "Encode", "Cost", "images/s", "higher", ",.0f", "at the batch size of the protocol"),
    Metric("decode_rate", "Decode", "Cost", "images/s", "higher", ",.0f", "at the batch size of the protocol"),
    Metric("encode_latency_ms", "Encode latency", "Cost", "ms", "lower", ".2f", "batch 1, median"),
    Metric("decode_latency_ms", "Decode latency", "Cost", "ms", "lower", ".2f", "batch 1, median"),
    Metric("snapshot_bytes", "Snapshot", "Cost", "B", "lower", "si"),
]
COST_KEYS = tuple(metric.key for metric in _COST)


SUMMARY_KEYS = (
    "mse",
    "ssim",
    "frechet_efflite0_samples",
    "frechet_inception_samples",
    "diversity_samples",
    "kl",
    "active_units",
    "verification_accuracy",
    "parameters",
)
"""What a report says first."""


def metrics() -> list[Metric]:
    """All rows of the table."""
    return [
        *_RECONSTRUCTION,
        *_distances("Distances: samples", "samples"),
        *_distances("Distances: reconstructions", "reconstructions"),
        *_LIKELIHOOD,
        *_LATENT,
        *_DISENTANGLEMENT,
        *_VERIFICATION,
        *_COST,
    ]


def diversity_key(images: str) -> str:
    """Key of how much ``samples`` or ``reconstructions`` vary."""
    return f"diversity_{images}"


def distance_keys(space: SpaceNames, images: str) -> tuple[str, str, str, str]:
    """Keys of Fréchet and kernel distance, precision and recall of ``samples`` or ``reconstructions`` in a space."""
    frechet, kernel, precision, recall = (
        f"{metric}_{space.name}_{images}" for metric in ("frechet", "kernel", "precision", "recall")
    )
    return frechet, kernel, precision, recall


def all_distance_keys(images: str) -> tuple[str, ...]:
    """Keys of everything that is said of the features of ``samples`` or ``reconstructions``."""
    return (*(key for space in SPACES for key in distance_keys(space, images)), diversity_key(images))


def part_keys() -> dict[str, tuple[str, ...]]:
    """The metrics of each part of a report that has some."""
    return {
        "reconstruction": RECONSTRUCTION_KEYS,
        "distances:samples": all_distance_keys("samples"),
        "distances:reconstructions": all_distance_keys("reconstructions"),
        "likelihood": LIKELIHOOD_KEYS,
        "latent": LATENT_KEYS,
        "disentanglement": DISENTANGLEMENT_KEYS,
        "verification": VERIFICATION_KEYS,
        "cost": COST_KEYS,
    }


def _distances(group: str, images: str) -> list[Metric]:
    rows = []
    for space in SPACES:
        frechet, kernel, precision, recall = distance_keys(space, images)
        rows.append(Metric(frechet, space.frechet, group, "", "lower", ".2f", "Fréchet distance from the split"))
        rows.append(Metric(kernel, space.kernel, group, "", "lower", ".3g", "kernel distance, mean ± std of subsets"))
        help = "share of these images inside the support of the split"
        rows.append(Metric(precision, space.precision, group, "", "higher", ".3f", help))
        help = "share of the split inside the support of these images"
        rows.append(Metric(recall, space.recall, group, "", "higher", ".3f", help))
    help = f"variance of {SPACES[0].name} features over that of the split; near 0: few different images"
    return [*rows, Metric(diversity_key(images), "Diversity", group, "", "", ".3f", help)]
