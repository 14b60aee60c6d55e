"""The faces that a command works on: photos and images of a data set in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.latent.conditions import UNKNOWN, condition_labels, split_degrees
from eval.latent.encode import decode_images
from eval.latent.options import FaceOptions, open_data
from eval.latent.photo import load_photo
from eval.latent.photo_framing import photo_alignment
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.reader import Reader, check_split


@dataclass(frozen=True)
class Faces:
    """N faces that a model can encode."""

    images: np.ndarray
    """uint8 (N, H, W, C)."""
    names: tuple[str, ...]
    """File names, or keys of the data set."""
    degrees: np.ndarray
    """float32 (N,): the model's condition; NaN where it is unknown or the model has none."""

    def encode(self, model: Any) -> np.ndarray:
        """The posterior's mean of each, float32 (N, L)."""
        return model.encode(self.images, condition_labels(model, self.degrees))

    def reconstruct(self, model: Any) -> np.ndarray:
        """Each face encoded and decoded with its own degree, uint8 (N, H, W, C)."""
        return decode_images(model, self.encode(model), self.degrees)


def choose_faces(options: FaceOptions, model: Any, at_least: int = 1) -> Faces:
    """The faces that the options name: photos first, then those of the data set.

    Args:
        options: The faces to read.
        model: Gives the image shape and the condition.
        at_least: Fewest faces that will do.

    Raises:
        UserError: Unusable photos or data, or too few faces.
    """
    parts = []
    if options.images:
        align = options.align if options.crop == "center" else "none"
        alignment = photo_alignment(model, align, options.align_margin)
        photos = [load_photo(path, model.image_shape, options.crop, alignment=alignment) for path in options.images]
        names = tuple(Path(path).stem for path in options.images)
        parts.append(Faces(np.stack(photos), names, np.full(len(photos), UNKNOWN, np.float32)))
    if options.data and (options.rows or options.sample_keys or not options.images):
        dataset = open_data(options.data, model, options.split)
        parts.append(read_faces(model, dataset, options.split, find_rows(options, dataset)))
    if not parts:
        raise UserError("no faces are given; give photos with --images FILE ... or a data set with --data DIR.")
    faces = Faces(
        np.concatenate([part.images for part in parts]),
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.degrees for part in parts]),
    )
    if len(faces.names) < at_least:
        raise UserError(f"at least {at_least} faces are needed, not {len(faces.names)}; give more.")
    if options.degree is None:
        return faces
    return Faces(faces.images, faces.names, np.full_like(faces.degrees, options.degree))


def find_rows(options: FaceOptions, dataset: Dataset) -> np.ndarray:
    """The rows of the split that the options name, int64 (n,): rows, then keys; else spread evenly over the split.

    Raises:
        UserError: A row or key that the split does not have.
    """
    check_split(dataset, options.split)
    available = dataset.num_samples(options.split)
    if not options.rows and not options.sample_keys:
        return even_rows(available, options.num)
    beyond = [row for row in options.rows if not 0 <= row < available]
    if beyond:
        raise UserError(f"split {options.split} of {dataset.address} has rows 0 to {available - 1}, not {beyond[0]}.")
    return np.array([*options.rows, *_rows_of_keys(options.sample_keys, dataset, options.split)], np.int64)


def even_rows(available: int, num: int) -> np.ndarray:
    """Up to ``num`` of ``available`` rows, spread evenly: a data set may begin with many pictures of one person."""
    return np.linspace(0, available - 1, min(num, available)).round().astype(np.int64)


def read_faces(model: Any, dataset: Dataset, split: str, rows: np.ndarray) -> Faces:
    """Images of a data set, by rows of a split (n,)."""
    images = np.empty((len(rows), dataset.image.height, dataset.image.width, dataset.image.channels), np.uint8)
    Reader(dataset, split).read_images(rows, images)
    names = tuple(dataset.key(split, int(row)) for row in rows)
    return Faces(images, names, split_degrees(model, dataset, split)[rows])


def _rows_of_keys(keys: Sequence[str], dataset: Dataset, split: str) -> list[int]:
    if not keys:
        return []
    positions = {key: row for row, key in enumerate(dataset.keys(split))}
    unknown = [key for key in keys if key not in positions]
    if unknown:
        example = next(iter(positions))
        raise UserError(
            f"split {split} of {dataset.address} has no sample '{unknown[0]}'; a key looks like '{example}'."
        )
    return [positions[key] for key in keys]
