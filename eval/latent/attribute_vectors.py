"""Attribute vectors: the mean of mu where an attribute is present minus the mean where it is absent.

Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", section 3.3. A strength is a
multiple of this difference: 1 moves a latent by the distance between the two groups.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.base.large_arrays import column_means
from eval.latent.encode import encode_split
from eval.latent.fitted_files import FittedFile
from eval.latent.origin import Origin
from shards.base.errors import UserError
from shards.base.files import make_folder
from shards.base.records import parse_json
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField

BEST_KNOWN = ("Smiling", "Male", "Young", "Eyeglasses")
"""CelebA's attributes that are shown first where they exist."""
_PARALLEL = 1e-6
"""Singular values up to this share of the largest count as 0."""
_TENSORS = ("vectors", "unit_vectors", "num_present", "num_absent")
_FILE = FittedFile(
    "file of attribute vectors",
    tensors={"vectors": 2, "num_present": 1, "num_absent": 1},
    texts=("names",),
    command="python -m eval.attributes fit",
)


@dataclass(frozen=True)
class Attributes:
    """The vectors of A attributes in a latent space of L dims."""

    names: tuple[str, ...]
    vectors: np.ndarray
    """float32 (A, L): mean(mu | present) - mean(mu | absent)."""
    num_present: np.ndarray
    """int64 (A,): images with the attribute."""
    num_absent: np.ndarray
    """int64 (A,): images known to lack it."""

    @property
    def unit_vectors(self) -> np.ndarray:
        """float32 (A, L): the same directions with length 1."""
        return self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)

    def vector(self, name: str, without: Sequence[str] = ()) -> np.ndarray:
        """The vector of one attribute, float32 (L,).

        Args:
            name: The attribute.
            without: Attributes to keep unchanged: the part of the vector in the span of theirs is removed, which makes
                it shorter.

        Raises:
            UserError: An unknown attribute, or nothing left of the vector.
        """
        vector = self.vectors[self._position(name)]
        if not without:
            return vector
        if name in without:
            raise UserError(f"attribute {name} cannot be removed from itself; take it out of --without.")
        others = self.vectors[[self._position(other) for other in without]].astype(np.float64)
        _, lengths, basis = np.linalg.svd(others, full_matrices=False)
        basis = basis[lengths > _PARALLEL * lengths.max()]
        rest = vector - basis.T @ (basis @ vector)
        if np.linalg.norm(rest) < 1e-4 * np.linalg.norm(vector):
            raise UserError(f"nothing is left of {name} without {', '.join(without)}; name fewer with --without.")
        return rest.astype(np.float32)

    def _position(self, name: str) -> int:
        if name not in self.names:
            raise UserError(f"there is no attribute '{name}'; there are {', '.join(self.names)}.")
        return self.names.index(name)


def presence(field: LabelField, column: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Which images have an attribute, and which lack it; an image without the label does neither.

    A degree with values on both sides of 0 is present above 0 and absent below. Any other degree is present above its
    median and absent below.

    Args:
        field: The label.
        column: Its values (N,).

    Returns:
        Two bool (N,), each with at least one image; None for classes and for labels without two groups.
    """
    if field.kind == "class":
        return None
    if field.kind == "bool":
        present, absent = column == 1, column == 0
    else:
        known = column[~np.isnan(column)]
        if not len(known):
            return None
        threshold = 0.0 if known.min() < 0 < known.max() else float(np.median(known))
        present, absent = column > threshold, column < threshold
    return (present, absent) if present.any() and absent.any() else None


def fit_attributes(latents: np.ndarray, labels: dict[str, tuple[np.ndarray, np.ndarray]]) -> Attributes:
    """Computes the differences of means.

    Args:
        latents: float (N, L).
        labels: By attribute, which images have it and which lack it, as ``presence`` returns them.
    """
    means = [column_means(latents, present) - column_means(latents, absent) for present, absent in labels.values()]
    return Attributes(
        names=tuple(labels),
        vectors=np.stack(means).astype(np.float32),
        num_present=np.array([present.sum() for present, _ in labels.values()], np.int64),
        num_absent=np.array([absent.sum() for _, absent in labels.values()], np.int64),
    )


def split_attributes(model: Any, dataset: Dataset, split: str, limit: int | None = None) -> Attributes:
    """The vectors of all bool and degree labels of a split, or of its first ``limit`` images.

    Raises:
        UserError: No label has two groups.
    """
    found = {name: presence(field, dataset.labels(name, split)[:limit]) for name, field in dataset.fields.items()}
    labels = {name: groups for name, groups in found.items() if groups}
    if not labels:
        raise UserError(
            f"split {split} of {dataset.address} has no bool or degree label with both values; pack one with labels."
        )
    return fit_attributes(encode_split(model, dataset, split, limit=limit), labels)


def save_attributes(path: str | Path, attributes: Attributes, origin: Origin) -> None:
    """Writes a safetensors file: raw and unit vectors and counts, with names and origin as metadata."""
    tensors = {name: getattr(attributes, name) for name in _TENSORS}
    _FILE.save(Path(path), tensors, origin, {"names": json.dumps(attributes.names)})


def export_h5(path: str | Path, attributes: Attributes, origin: Origin) -> None:
    """Writes the same as HDF5: a data set for each tensor and the names, the origin as attributes of the root.

    Raises:
        UserError: h5py is not installed.
    """
    h5py = import_h5py()
    make_folder(Path(path).parent)
    with h5py.File(path, "w") as file:
        for name in _TENSORS:
            file[name] = getattr(attributes, name)
        file.create_dataset("names", data=list(attributes.names), dtype=h5py.string_dtype())
        file.attrs.update(_FILE.metadata(origin))


def import_h5py() -> Any:
    """The optional package behind ``export_h5``.

    Raises:
        UserError: It is not installed.
    """
    try:
        import h5py  # type: ignore[import-not-found]
    except ImportError:
        raise UserError("writing HDF5 files needs h5py; install it with: pip install 'facegen[hdf5]'") from None
    return h5py


def load_attributes(path: str | Path) -> tuple[Attributes, Origin]:
    """Reads what ``save_attributes`` wrote.

    Raises:
        UserError: Not such a file, or one that a newer facegen wrote.
    """
    tensors, texts, origin = _FILE.load(Path(path))
    try:
        names = parse_json(texts["names"])
    except ValueError:
        raise _FILE.damaged(Path(path)) from None
    if not isinstance(names, list) or {len(names)} != {len(tensor) for tensor in tensors.values()}:
        raise _FILE.damaged(Path(path))
    return Attributes(tuple(map(str, names)), **tensors), origin


def edited_latents(latents: np.ndarray, vector: np.ndarray, strengths: Sequence[float] | np.ndarray) -> np.ndarray:
    """Latents (N, L) moved along a vector (L,) by each of S strengths: float32 (N, S, L)."""
    steps = np.asarray(strengths, np.float32)[:, None] * vector
    return (latents[:, None] + steps).astype(np.float32)
