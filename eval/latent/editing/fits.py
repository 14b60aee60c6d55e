"""What is fitted to the latents of training faces: the axes of the sliders, and attribute vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eval.base.cached import cached_array
from eval.latent.attribute_vectors import BEST_KNOWN, Attributes, load_attributes, split_attributes
from eval.latent.axes import Axes, component_axes
from eval.latent.conditions import middle_degree
from eval.latent.encode import encode_split
from eval.latent.origin import Origin, snapshot_identity
from eval.latent.pca import Pca, fit_pca, load_pca, save_pca
from eval.latent.picture_axes import MAX_LATENTS, picture_axes, picture_metric
from facegen.model import Model
from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.dataset.dataset import Dataset

FIT_FACES = 20_000
"""At most this many faces of the first split are used."""


@dataclass(frozen=True)
class Sliders:
    """The axes that a face is moved along."""

    kind: Literal["component", "direction", "dim"]
    axes: Axes
    shares: np.ndarray | None
    """(A,) share of the variance that each component explains, or of the change of the picture that each direction
    makes; None for single dims."""


def fit_sliders(model: Model, dataset: Dataset | None) -> Sliders:
    """Principal components of the faces' latents, or where they change little the directions that change the picture
    most; single dims without faces or without an encoder.
    """
    size = model.latent_size or 0
    if dataset is None or "encode" not in model.can:
        names = tuple(f"dim {dim}" for dim in range(size))
        return Sliders("dim", Axes(names, np.eye(size, dtype=np.float32), np.zeros(size), np.ones(size)), None)
    pca = _components(model, dataset)
    found = picture_axes(_picture_metric(model, dataset, pca), pca) if size <= MAX_LATENTS else None
    if found is not None:
        return Sliders("direction", _in_float32(found[0]), found[1])
    shares = pca.variances / max(pca.variances.sum(), np.finfo(float).tiny)
    return Sliders("component", _in_float32(component_axes(pca, range(size))), shares)


def _in_float32(axes: Axes) -> Axes:
    """With thousands of dims the directions are the one large array; this is enough to move a float32 latent."""
    return Axes(axes.names, axes.directions.astype(np.float32), axes.centers, axes.units)


def fit_attributes(model: Model, dataset: Dataset | None, files: Sequence[str]) -> Attributes:
    """The vectors of files that belong to this model, then those of the data set's labels.

    Raises:
        UserError: There are none, or a file holds none.
    """
    parts = []
    for path in files:
        attributes, origin = load_attributes(path)
        if origin.snapshot == snapshot_identity(model):
            parts.append(attributes)
    problem = "start the studio with --data DIR or --attributes FILE to have attributes."
    if dataset is not None and "encode" in model.can:
        try:
            parts.append(split_attributes(model, dataset, dataset.splits[0], limit=FIT_FACES))
        except UserError:
            problem = "the data set has no bool or degree label to fit attributes to; give --attributes FILE."
    if not parts:
        raise UserError(f"there are no attributes for {model.name}: {problem}")
    return _joined(parts)


def _components(model: Model, dataset: Dataset) -> Pca:
    """Principal components, cached in the user's cache directory."""
    origin = Origin.of(model, dataset, dataset.splits[0])
    path = _cache_path("components", origin)
    try:
        return load_pca(path)[0]
    except UserError:
        pca = fit_pca(encode_split(model, dataset, origin.split, limit=FIT_FACES))
        save_pca(path, pca, origin)
        return pca


def _picture_metric(model: Model, dataset: Dataset, pca: Pca) -> np.ndarray:
    """How steps in latent space change the picture, cached likewise."""
    path = _cache_path("picture_metrics", Origin.of(model, dataset, dataset.splits[0]))
    size = len(pca.mean)
    return cached_array(path, "metric", (size, size), lambda: picture_metric(model, pca, middle_degree(model)))


def _cache_path(kind: str, origin: Origin) -> Path:
    return cache_directory() / kind / f"{origin.snapshot}-{origin.fingerprint}-{origin.split}.safetensors"


def _joined(parts: Sequence[Attributes]) -> Attributes:
    """All vectors, the best known first; of several with one name, the first."""
    rows = {name: (part, row) for part in reversed(parts) for row, name in enumerate(part.names)}
    names = tuple(sorted(rows, key=lambda name: (name not in BEST_KNOWN, name.casefold())))
    chosen = [rows[name] for name in names]
    return Attributes(
        names,
        np.stack([part.vectors[row] for part, row in chosen]),
        np.array([part.num_present[row] for part, row in chosen]),
        np.array([part.num_absent[row] for part, row in chosen]),
    )
