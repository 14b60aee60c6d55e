"""A map of held-out faces: each a point in the plane, colored by a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from eval.latent.encode import encode_split
from eval.latent.faces import even_rows
from eval.studio.run import StudioRun
from shards.base.errors import UserError
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.dataset.dataset import Dataset

Method = Literal["tsne", "pca"]
MAP_FACES = 2_000
"""At most so many faces, spread evenly over the split: a t-SNE of them takes seconds."""
_PERPLEXITY = 30.0
_FEW = 4
"""So many times as many faces as neighbors, so that neighborhoods are not all of them."""


@dataclass(frozen=True)
class FaceMap:
    """N faces in the plane."""

    split: str
    rows: np.ndarray
    """int64 (N,): of the split."""
    points: np.ndarray
    """float32 (N, 2) in [0, 1], with the same scale for both."""


def held_out_split(dataset: Dataset) -> str:
    """The split whose faces are shown: the last one that there is, which is the test split where there is one."""
    return dataset.splits[-1]


def make_map(run: StudioRun, method: Method) -> FaceMap:
    """Lays the latents of held-out faces out in the plane; t-SNE's are cached.

    Raises:
        UserError: No faces, or a run that takes none.
        NotYet: The components are still being fitted.
    """
    dataset = run.dataset
    if dataset is None:
        raise UserError("start the studio with --data DIR to have a map of its faces.")
    if not run.can_encode:
        raise UserError(f"{run.name} makes faces and takes none, so that there is no map of them.")
    split = held_out_split(dataset)
    rows = even_rows(dataset.num_samples(split), MAP_FACES)
    latents = encode_split(run.model, dataset, split)[rows]
    if method == "pca":
        axes = run.sliders.get().axes
        places = latents @ axes.directions[:2].T
        if places.shape[1] == 1:
            places = np.hstack([places, np.zeros_like(places)])
    else:
        places = _cached_tsne(run, dataset, split, latents)
    return FaceMap(split, rows, _to_unit_square(places))


def colors(dataset: Dataset, face_map: FaceMap, label: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Each face's color as ``#rrggbb`` (empty where the label is not known), and what the colors mean.

    Raises:
        UserError: A label that the data set does not have.
    """
    if label not in dataset.fields:
        raise UserError("the data set has no label of this name; /api/studio lists its labels.")
    # SciPy takes seconds to import, and the first picture shall not wait for a map.
    from eval.drawing.scatter import color_by_label

    column = dataset.labels(label, face_map.split)[face_map.rows]
    coloring = color_by_label(label, dataset.fields[label], column)
    known = [_hex(color) if is_known else "" for color, is_known in zip(coloring.colors, coloring.known, strict=True)]
    return known, [(text, _hex(np.array(color))) for text, color in coloring.legend]


def _cached_tsne(run: StudioRun, dataset: Dataset, split: str, latents: np.ndarray) -> np.ndarray:
    name = f"{run.identity}-{dataset.fingerprint}-{split}-{len(latents)}.safetensors"
    path = cache_directory() / "tsne" / name
    try:
        return load_file(path)["points"]
    except (OSError, SafetensorError, KeyError):
        from eval.latent.tools.tsne import embed

        points = embed(latents, min(_PERPLEXITY, max(2.0, (len(latents) - 1) / _FEW)))
        save_tensors(path, {"points": points})
        return points


def _to_unit_square(places: np.ndarray) -> np.ndarray:
    low, high = places.min(axis=0), places.max(axis=0)
    return ((places - (low + high) / 2) / (max(high - low) or 1.0) + 0.5).astype(np.float32)


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)
