"""Turns the statistics of one run into the numbers of its column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.disentanglement import measure
from eval.factors.known import ground_truth, read_factors
from eval.features.feature_set import FeatureSet, FeatureSets
from eval.metrics.elbo import ElboSums, bits_per_dim
from eval.metrics.frechet import frechet_distance
from eval.metrics.kernel import kernel_distance
from eval.metrics.latent_usage import LatentUsage
from eval.metrics.precision_recall import NUM_NEIGHBORS, precision_recall
from eval.metrics.reconstruction import SSIM_WINDOW, ReconstructionSums
from eval.reports.catalog import (
    COST_KEYS,
    DISENTANGLEMENT_KEYS,
    RECONSTRUCTION_KEYS,
    SPACES,
    VERIFICATION_KEYS,
    SpaceNames,
    distance_keys,
    diversity_key,
    part_keys,
)
from eval.reports.parts import SKIPPED
from eval.reports.results import Measure
from eval.verification.folds import Line
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset

FEW_IMAGES = 2048
"""Below this many images a Fréchet distance depends strongly on their number (its covariances lack rank)."""

Measures = dict[str, Measure]
_ELBO_KEYS = ("elbo", "bits_per_dim", "decoder_variance", "best_bits_per_dim", "best_variance")


def reconstruction_measures(sums: ReconstructionSums | None, family: str) -> Measures:
    """MSE, PSNR and SSIM."""
    if sums is None:
        return _missing(RECONSTRUCTION_KEYS, f"{family} does not reconstruct")
    measures = {name: Measure(value) for name, value in sums.means().items()}
    return _missing(("ssim",), f"images are smaller than the window of {SSIM_WINDOW} pixels") | measures


def likelihood_measures(sums: ElboSums | None, usage: LatentUsage | None, model: Any) -> Measures:
    """KL, ELBO and bits per dim."""
    if usage is None or usage.kl is None:
        reason = f"{model.family} has no posterior, so no KL and no ELBO"
        return _missing(("kl", "kl_per_dim", *_ELBO_KEYS), reason)
    measures = {"kl": Measure(float(usage.kl.sum())), "kl_per_dim": Measure(float(usage.kl.mean()))}
    if sums is None:
        reason = f"the objective of {model.family} has no Gaussian likelihood"
        return measures | _missing(_ELBO_KEYS, reason)
    elbo = sums.elbo(model.decoder_variance)
    return measures | {
        "elbo": Measure(elbo),
        "bits_per_dim": Measure(bits_per_dim(elbo, sums.num_values)),
        "decoder_variance": Measure(model.decoder_variance),
        "best_bits_per_dim": Measure(bits_per_dim(sums.elbo(sums.best_variance), sums.num_values)),
        "best_variance": Measure(sums.best_variance),
    }


def latent_measures(usage: LatentUsage | None, family: str) -> Measures:
    """Usage of the latent dims."""
    names = ("active_units", "latent_size", "effective_dims", "ks_mean", "ks_max")
    correlations = ("correlation_mean", "correlation_max")
    if usage is None:
        return _missing(names + correlations, f"{family} does not encode")
    note = "" if usage.kl is not None else f"{family} is not trained towards N(0, 1)"
    measures = {
        "active_units": Measure(usage.num_active),
        "latent_size": Measure(len(usage.variance)),
        "effective_dims": Measure(usage.effective_dims),
        "ks_mean": Measure(float(usage.ks.mean()), note=note),
        "ks_max": Measure(float(usage.ks.max()), note=note),
    }
    pairs = usage.off_diagonal
    if not len(pairs):
        return measures | _missing(correlations, "fewer than two dims are active")
    return measures | {
        "correlation_mean": Measure(float(pairs.mean())),
        "correlation_max": Measure(float(pairs.max())),
    }


def disentanglement_measures(mu: np.ndarray | None, dataset: Dataset, split: str, family: str) -> Measures:
    """MIG, DCI, SAP and the FactorVAE score of the first images of a split, from their latents mu (n, L)."""
    if mu is None:
        return _missing(DISENTANGLEMENT_KEYS, f"{family} does not encode")
    names = ground_truth(dataset)
    if not names:
        return _missing(DISENTANGLEMENT_KEYS, "only of rendered faces all factors are known")
    try:
        factors = read_factors(dataset, split, len(mu), names)
        scores = measure(mu, factors)
    except UserError as error:
        return _missing(DISENTANGLEMENT_KEYS, str(error).rstrip("."))
    note = f"mean over {len(factors.names)} factors, {len(mu):,} images"
    return {key: Measure(getattr(scores, key), note=note) for key in DISENTANGLEMENT_KEYS}


def distance_measures(
    images: str,
    features: FeatureSets | None,
    reference: FeatureSets,
    absent_spaces: Mapping[str, str],
    family: str,
) -> Measures:
    """Fréchet and kernel distances from the split, precision and recall, and diversity.

    Args:
        images: ``samples`` or ``reconstructions``.
        features: Of these images; None where the model makes none.
        reference: Of the split.
        absent_spaces: Why a space is not there, by its name.
        family: Of the model.
    """
    measures: Measures = {}
    for space in SPACES:
        keys = distance_keys(space, images)
        if space.name in absent_spaces:
            measures |= _missing(keys, absent_spaces[space.name])
        elif features is None:
            measures |= _missing(keys, f"{family} makes no {images}")
        else:
            measures |= _distances(space, images, features, reference)
    return measures | {diversity_key(images): _diversity(features, reference, f"{family} makes no {images}")}


def _diversity(features: FeatureSets | None, reference: FeatureSets, reason: str) -> Measure:
    """How much images vary, as the share of the split's total variance of features."""
    if features is None:
        return Measure(reason=reason)
    ours, theirs = features.sets[SPACES[0].name].statistics, reference.sets[SPACES[0].name].statistics
    if min(ours.count, theirs.count) < 2:
        return Measure(reason="a variance needs at least 2 images on either side")
    return Measure(float(ours.covariance.trace() / theirs.covariance.trace()))


def _distances(space: SpaceNames, images: str, features: FeatureSets, reference: FeatureSets) -> Measures:
    keys = distance_keys(space, images)
    ours, theirs = features.sets[space.name], reference.sets[space.name]
    num_images = min(ours.statistics.count, theirs.statistics.count)
    if num_images < 2:
        return _missing(keys, "a distance needs at least 2 images on either side")
    few = f"only {num_images:,} images: compare it only with values at the same number"
    frechet_note = few if num_images < FEW_IMAGES else ""
    kernel = kernel_distance(ours.bank.ordered(), theirs.bank.ordered())
    kernel_note = f"subsets of {kernel.subset_size:,}" if kernel.subset_size < 1000 else ""
    measures = {
        keys[0]: Measure(frechet_distance(ours.statistics, theirs.statistics), note=frechet_note),
        keys[1]: Measure(kernel.mean, spread=kernel.std or None, note=kernel_note),
    }
    return measures | _precision_recall(keys[2:], ours, theirs)


def _precision_recall(keys: tuple[str, str], ours: FeatureSet, theirs: FeatureSet) -> Measures:
    """Both shares, of as many images on either side, since they grow with the numbers."""
    first, second = ours.bank.ordered(), theirs.bank.ordered()
    num_images = min(len(first), len(second))
    if num_images <= NUM_NEIGHBORS:
        return _missing(keys, f"needs at least {NUM_NEIGHBORS + 1} images on either side")
    result = precision_recall(first[:num_images], second[:num_images])
    note = f"of {num_images:,} images on either side: compare it only with values at the same number"
    return {key: Measure(value, note=note) for key, value in zip(keys, result, strict=True)}


def verification_measures(line: Line | None, reason: str, control_accuracy: float = math.nan) -> Measures:
    """What the cosine of latents says of pairs, in percent.

    Args:
        line: Of the cosine; None where nothing was measured.
        reason: Why, then.
        control_accuracy: That of random latents on the same pairs, a share.
    """
    if line is None:
        return _missing(VERIFICATION_KEYS, reason)
    accuracy, eer, tar = VERIFICATION_KEYS
    note = f"random latents on the same pairs: {100 * control_accuracy:.1f} %"
    return {
        accuracy: Measure(100 * line.accuracy.mean, spread=100 * line.accuracy.standard_error, note=note),
        eer: Measure(100 * line.discrimination.equal_error_rate),
        tar: Measure(100 * line.discrimination.true_accept_rate),
    }


def skipped_measures(parts: frozenset[str]) -> Measures:
    """Every number of the parts that are not done."""
    return {key: Measure(reason=SKIPPED) for part, keys in part_keys().items() if part not in parts for key in keys}


def cost_measures(costs: Mapping[str, float], family: str) -> Measures:
    """What ``eval.metrics.cost`` measured."""
    missing = {key: f"{family} does not {key.split('_')[0]}" for key in COST_KEYS if key not in costs}
    absent = {key: Measure(reason=reason) for key, reason in missing.items()}
    return {key: Measure(value) for key, value in costs.items()} | absent


def _missing(keys: tuple[str, ...], reason: str) -> Measures:
    return {key: Measure(reason=reason) for key in keys}
