"""Linear probes that read labels from images: logistic regressions on features of EfficientNet-Lite0.

The probes are fitted on labeled images and on the model's reconstructions of them: samples are as smooth as
reconstructions, and a probe fitted on sharp photos only would misread them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from eval.base.cached import cached_array
from eval.features.image_features import image_features
from eval.features.spaces import FeatureSpace
from eval.latent.conditions import condition_labels
from eval.latent.faces import Faces, read_faces
from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.dataset.dataset import Dataset

_BATCH_SIZE = 64
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Probe:
    """A probe of one label.

    Attributes:
        label: Name of the label.
        model: Classifier of features (N, d).
    """

    label: str
    model: Pipeline

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Reads features (N, d): whether the label is present, bool (N,)."""
        return np.asarray(self.model.predict(features), bool)


@dataclass(frozen=True)
class Accuracy:
    """How far a probe can be trusted.

    Attributes:
        share: Share of correct readings.
        balanced: Mean of the shares among images with the label and without it.
        base_rate: Share of the more frequent answer.
    """

    share: float
    balanced: float
    base_rate: float


def fit_probe(label: str, features: np.ndarray, truth: np.ndarray) -> Probe:
    """Fits a probe on features float32 (N, d) and labels, bool (N,).

    Raises:
        UserError: All images have the label, or none has.
    """
    if truth.all() or not truth.any():
        raise UserError(f"'{label}' is the same for all images that a probe would be fitted on; use more of them.")
    # Strongly regularized: there are about as many features as images.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return Probe(label, model.fit(features, truth))


def accuracy(probe: Probe, features: np.ndarray, truth: np.ndarray) -> Accuracy:
    """Measures a probe on held-out images, from their features (N, d) and labels, bool (N,)."""
    is_right = probe(features) == truth
    sides = [is_right[truth == side].mean() for side in (True, False) if (truth == side).any()]
    return Accuracy(float(is_right.mean()), float(np.mean(sides)), float(max(truth.mean(), 1 - truth.mean())))


def label_truth(dataset: Dataset, label: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A bool or degree label of a split: whether it is known, and whether it is present (degree above 0), bool (N,).

    Raises:
        UserError: No such label, or one that is neither bool nor degree.
    """
    column = dataset.labels(label, split)
    kind = dataset.fields[label].kind
    if kind == "class":
        raise UserError(f"label '{label}' of {dataset.address} has classes; give a bool label or a degree.")
    return (np.isfinite(column), column > 0) if kind == "float" else (column >= 0, column == 1)


def split_features(
    space: FeatureSpace, model: Any, dataset: Dataset, split: str, rows: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Features of some images of a split, float32 (n, d); the user's cache keeps those that are not known.

    Args:
        space: The feature network.
        model: Gives the condition of faces.
        dataset: Holds the images.
        split: Name of the split.
        rows: Rows of the split in increasing order, int64 (n,).
        known: Features of the split's first images (k, d).
    """
    unknown = rows[rows >= len(known)]
    identity = (
        f"{_FORMAT_VERSION} {dataset.fingerprint} {split} {unknown.tolist()} {space.sha256} {space.preprocessing}"
    )
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.safetensors"

    def extract() -> np.ndarray:
        batches = _faces(model, dataset, split, unknown, lambda faces: faces.images)
        return image_features(space, batches, len(unknown), f"{split} images")

    path = cache_directory() / "image_features" / name
    return _join(known, rows, lambda: cached_array(path, "features", (len(unknown), space.dim), extract))


def reconstruction_features(
    space: FeatureSpace, model: Any, dataset: Dataset, split: str, rows: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Features of a model's reconstructions of the same images, float32 (n, d); ``known`` as for ``split_features``."""

    def reconstruct(faces: Faces) -> np.ndarray:
        return model.reconstruct(faces.images, condition_labels(model, faces.degrees))

    unknown = rows[rows >= len(known)]
    batches = _faces(model, dataset, split, unknown, reconstruct)
    return _join(known, rows, lambda: image_features(space, batches, len(unknown), f"{split} reconstructions"))


def _join(known: np.ndarray, rows: np.ndarray, extract: Callable[[], np.ndarray]) -> np.ndarray:
    """The features of rows: the known ones, then those of the others, where there are any."""
    found = known[rows[rows < len(known)]]
    return found if len(found) == len(rows) else np.concatenate([found, extract()])


def _faces(
    model: Any, dataset: Dataset, split: str, rows: np.ndarray, make: Callable[[Faces], np.ndarray]
) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), _BATCH_SIZE):
        yield make(read_faces(model, dataset, split, rows[first : first + _BATCH_SIZE]))
