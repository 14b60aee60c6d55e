"""Counts gender and smile in the data and in samples, and who changes gender when only the degree of a smile moves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.biases.bias_table import Bias, BiasRow
from eval.biases.counts import ChiSquare, cochran, cross_counts, independence, turned
from eval.biases.probe import (
    Accuracy,
    Probe,
    accuracy,
    fit_probe,
    label_truth,
    reconstruction_features,
    split_features,
)
from eval.features.image_features import image_features
from eval.features.spaces import FeatureSpace
from eval.latent.faces import even_rows
from eval.latent.options import Options
from eval.latent.tools.sample import sample_batches
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


@dataclass(kw_only=True)
class BiasOptions(Options):
    """What to count."""

    gender: str = "Male"
    """Label of gender: bool, or a degree that is above 0 for males."""
    smile: str = "Smiling"
    """Label of the smile: bool, or a degree that is above 0 for smiles."""
    degrees: list[float] = field(default_factory=lambda: [-1.0, -0.5, 0.0, 0.5, 1.0])
    """Degrees at which a conditional model is sampled; the others are compared with the one nearest to 0."""
    num_samples: int = 500
    """Samples; at each degree the same ones."""
    num_fit: int = 2000
    """Training images that the probes are fitted on, and as many reconstructions."""
    num_test: int = 1000
    """Held-out images that the probes are measured on."""
    split: str = "test"
    """Split of these held-out images."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        for name in ("num_samples", "num_fit", "num_test"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, not {getattr(self, name)}.")
        if not self.degrees or not all(map(math.isfinite, self.degrees)):
            raise ValueError(f"degrees must be numbers, at least one, not {self.degrees}.")
        if self.split == "train":
            raise ValueError("split must be a held-out one: the probes are fitted on the training split.")


@dataclass(frozen=True)
class KnownFeatures:
    """Features that were extracted before, each of the first images of their kind, (k, d)."""

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By the name of the split."""
    reconstructions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Those of the model, by the name of the split."""
    samples: np.ndarray | None = None
    """Of the seed of ``BiasOptions``, of a model without a condition."""


def find_bias(
    options: BiasOptions, model: Any, dataset: Dataset, space: FeatureSpace, extracted: KnownFeatures | None = None
) -> Bias:
    """Fits the probes, measures them on held-out images, and counts images and samples.

    Raises:
        UserError: No image of a split has both labels.
    """
    extracted, nothing = extracted or KnownFeatures(), np.empty((0, space.dim), np.float32)
    labels = (options.gender, options.smile)
    rows, truths = {}, {}
    for split, num in (("train", options.num_fit), (options.split, options.num_test)):
        known = [label_truth(dataset, label, split) for label in labels]
        usable = np.flatnonzero(np.logical_and.reduce([is_known for is_known, _ in known]))
        if not len(usable):
            raise UserError(f"no image of the {split} split has both {' and '.join(labels)}; name other labels.")
        rows[split] = usable[even_rows(len(usable), num)]
        truths[split] = [truth[rows[split]] for _, truth in known]
    features = {
        split: [split_features(space, model, dataset, split, rows[split], extracted.images.get(split, nothing))]
        for split in rows
    }
    kinds = ["images"]
    if {"encode", "decode"} <= model.can:
        kinds.append("reconstructions")
        for split in rows:
            first = extracted.reconstructions.get(split, nothing)
            features[split].append(reconstruction_features(space, model, dataset, split, rows[split], first))
    fitted_on = np.concatenate(features["train"])
    probes = [
        fit_probe(label, fitted_on, np.tile(truth, len(kinds)))
        for label, truth in zip(labels, truths["train"], strict=True)
    ]
    quality = {
        probe.label: {
            kind: accuracy(probe, part, truth) for kind, part in zip(kinds, features[options.split], strict=True)
        }
        for probe, truth in zip(probes, truths[options.split], strict=True)
    }
    read = _read(probes, features[options.split][0])
    table = [
        BiasRow(f"{options.split} images, labels", cross_counts(*truths[options.split]).tolist()),
        BiasRow(f"{options.split} images, as probes read them", cross_counts(*read).tolist()),
    ]
    tests = {f"gender and smile are independent: {row.images}": independence(np.array(row.counts)) for row in table}
    sampled, sample_tests = _samples(options, model, space, probes, extracted.samples)
    if model.condition is None:
        both = np.stack([np.array(part.counts).ravel() for part in (table[1], sampled[0])])
        sample_tests["samples are distributed as the images, as probes read both"] = independence(both)
    title = f"Bias of {model.name}: {options.gender} and {options.smile}"
    return Bias(title, table + sampled, quality, tests | sample_tests, _notes(model, quality, kinds))


def _samples(
    options: BiasOptions, model: Any, space: FeatureSpace, probes: Sequence[Probe], extracted: np.ndarray | None
) -> tuple[list[BiasRow], dict[str, ChiSquare | None]]:
    """The rows of the samples, one for each degree of a conditional model, and their tests."""

    def look(degree: float, what: str) -> np.ndarray:
        batches = sample_batches(model, options.num_samples, seed=options.seed, degree=degree)
        return _read(probes, image_features(space, batches, options.num_samples, what))

    if model.condition is None:
        if extracted is not None and len(extracted) >= options.num_samples:
            seen = _read(probes, extracted[: options.num_samples])
        else:
            seen = look(math.nan, "samples")
        counts = cross_counts(*seen)
        return [BiasRow("samples", counts.tolist())], {
            "gender and smile are independent: samples": independence(counts)
        }
    degrees = sorted(set(options.degrees))
    seen = np.stack([look(degree, f"samples at {degree:+.2f}") for degree in degrees])
    middle = int(np.abs(degrees).argmin())
    is_male = seen[:, 0]
    rows = [
        BiasRow(
            f"samples, {model.condition} {degree:+.2f}",
            cross_counts(*seen[position]).tolist(),
            degree,
            None if position == middle else turned(is_male[middle], is_male[position]),
        )
        for position, degree in enumerate(degrees)
    ]
    tests: dict[str, ChiSquare | None] = {}
    if len(degrees) > 1:
        tests["as many are male at every degree (Cochran's Q)"] = cochran(is_male)
    return rows, tests


def _read(probes: Sequence[Probe], features: np.ndarray) -> np.ndarray:
    """Reads features (N, d) with each probe: bool (probes, N)."""
    return np.stack([probe(features) for probe in probes])


def _notes(model: Any, quality: dict[str, dict[str, Accuracy]], kinds: Sequence[str]) -> list[str]:
    notes = [
        f"the probe of {label} reads {100 * found.share:.1f} % of held-out {kind} right "
        f"(balanced {100 * found.balanced:.1f} %, always guessing {100 * found.base_rate:.1f} %)."
        for label, by_kind in quality.items()
        for kind, found in by_kind.items()
    ]
    if "reconstructions" in kinds and model.condition is not None:
        notes.append(
            f"reconstructions are decoded with their own {model.condition}: how well that is read from them says how "
            "clearly the model draws it, not how real it looks."
        )
    if "reconstructions" not in kinds:
        notes.append("the model cannot reconstruct, so the probes have seen real images only and may misread samples.")
    return notes
