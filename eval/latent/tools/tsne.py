"""A map of the latent space: t-SNE of mu (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.numpy import load_file

from eval.latent.editing.background import Later
from eval.latent.editing.editor import Editor
from eval.latent.editing.recipes import Name
from eval.latent.encode import encode_split
from eval.latent.faces import even_rows
from eval.latent.options import ModelOptions, check_png_path, open_data, save_png
from eval.latent.tools.tool import StudioRoute, Tool
from facegen.model import Model
from shards.base.errors import UserError
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset

# scikit-learn and scipy.ndimage take seconds to import, and the studio's first picture should not wait for a map:
# they are imported where they are used.

MAX_POINTS = 20_000
_NUM_COMPONENTS = 50
"""Principal components that t-SNE works on, as its authors do: distances lose little and the search gains much."""


def embed(latents: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Lays latents out in the plane.

    Args:
        latents: float (N, L).
        perplexity: Roughly the number of neighbors that each point stays close to; below N.
        seed: Of the optimization.

    Returns:
        float32 (N, 2). Neighborhoods mean something; distances between far groups, and their sizes, do not.

    Raises:
        UserError: Too few latents for the perplexity.
    """
    if len(latents) <= perplexity:
        raise UserError(f"{len(latents)} images are too few for a perplexity of {perplexity:g}; give a smaller one.")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    points = latents.astype(np.float32)
    num_components = min(_NUM_COMPONENTS, len(latents))
    if latents.shape[1] > num_components:
        # Not eval.latent.pca: with thousands of dims, finding all components takes minutes.
        points = PCA(num_components, random_state=seed).fit_transform(points)
    with ProgressLine(f"t-SNE of {len(points):,} latents", unit="steps"):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


def latent_map(
    points: np.ndarray, dataset: Dataset, split: str, rows: np.ndarray, labels: Sequence[str]
) -> Image.Image:
    """The density of points (N, 2), and a panel colored by each of some labels.

    Args:
        points: As ``embed`` returns them.
        dataset: Holds the labels.
        split: The points' split.
        rows: (N,) of the split.
        labels: Names of labels.
    """
    from eval.drawing.scatter import color_by_label, density_panel, scatter_panel, side_by_side

    panels = [density_panel(points)]
    for name in labels:
        column = dataset.labels(name, split)[rows]
        panels.append(scatter_panel(points, color_by_label(name, dataset.fields[name], column)))
    return side_by_side(panels)


@dataclass(kw_only=True)
class TsneConfig(ModelOptions):
    """Options of a map."""

    data: str
    """Packed data set."""
    out: str
    """PNG file: the density, and a panel for each label."""
    split: str = "test"
    """Split to show."""
    color: list[str] = field(default_factory=list)
    """Labels that color the points, one panel each."""
    num: int = MAX_POINTS
    """At most this many images, spread evenly over the split."""
    perplexity: float = 30.0
    """Roughly the number of neighbors that each point stays close to."""
    seed: int = 0
    """Seed of the optimization."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        check_png_path("out", self.out)
        if not 3 <= self.num <= MAX_POINTS:
            raise ValueError(f"num must be between 3 and {MAX_POINTS:,}, not {self.num:,}.")
        if not 1 <= self.perplexity < float("inf"):
            raise ValueError(f"perplexity must be at least 1, not {self.perplexity:g}.")

    @property
    def outputs(self) -> list[str]:
        """The picture."""
        return [self.out]


def draw(config: TsneConfig, model: Model) -> None:
    """Draws the map."""
    dataset = open_data(config.data, model, config.split)
    for name in config.color:
        dataset.labels(name, config.split)  # An unknown label is an error before t-SNE's minutes.
    rows = even_rows(dataset.num_samples(config.split), config.num)
    latents = encode_split(model, dataset, config.split)[rows]
    points = embed(latents, config.perplexity, config.seed)
    save_png(config.out, latent_map(points, dataset, config.split, rows, config.color))


# The studio

Method = Literal["tsne", "pca"]
MAP_FACES = 2_000
"""At most this many faces, spread evenly over the split: a t-SNE of them takes seconds."""
_PERPLEXITY = 30.0
_FEW = 4
"""The perplexity is at most the number of faces over this, so that a neighborhood is not all of them."""


@dataclass(frozen=True)
class FaceMap:
    """N held-out faces in the plane."""

    split: str
    rows: np.ndarray
    """int64 (N,): of the split."""
    points: np.ndarray
    """float32 (N, 2) in [0, 1], with the same scale for both."""


class MapAnswer(BaseModel):
    """Held-out faces in the plane."""

    split: str
    rows: list[int]
    x: list[float]
    y: list[float]
    colors: list[str]
    legend: list[tuple[str, str]]


def face_map(run: Editor, method: Method = "tsne", label: Name | None = None) -> MapAnswer:
    """Held-out faces in the plane, colored by a label."""
    if method == "pca":
        # Background work is done one after the other: a map that waited for the components would never get them.
        run.sliders.get()
    found = later_map(run, method).get()
    assert run.dataset is not None
    shades, legend = ([], []) if label is None else colors(run.dataset, found, label)
    return MapAnswer(
        split=found.split,
        rows=found.rows.tolist(),
        x=[round(float(value), 4) for value in found.points[:, 0]],
        y=[round(float(value), 4) for value in found.points[:, 1]],
        colors=shades,
        legend=legend,
    )


def later_map(run: Editor, method: Method) -> Later[FaceMap]:
    """The map of a run, made in the background."""
    return run.in_background(("map", method), f"the map of {run.name} is being laid out", lambda: make_map(run, method))


def make_map(run: Editor, method: Method) -> FaceMap:
    """Lays the latents of held-out faces out in the plane; those of t-SNE are cached.

    Raises:
        UserError: There are no faces, or the run cannot encode them.
        NotYet: The components are still being fitted.
    """
    dataset = run.dataset
    if dataset is None:
        raise UserError("start the studio with --data DIR to have a map of its faces.")
    if not run.can_encode:
        raise UserError(f"{run.name} cannot encode faces, so there is no map of them.")
    split = held_out_split(dataset)
    rows = even_rows(dataset.num_samples(split), MAP_FACES)
    latents = encode_split(run.model, dataset, split)[rows]
    if method == "pca":
        places = latents @ run.sliders.get().axes.directions[:2].T
        if places.shape[1] == 1:
            places = np.hstack([places, np.zeros_like(places)])
    else:
        places = _cached_tsne(run, dataset, split, latents)
    return FaceMap(split, rows, _to_unit_square(places))


def held_out_split(dataset: Dataset) -> str:
    """The split whose faces are shown: the last one, which is the test split where there is one."""
    return dataset.splits[-1]


def colors(dataset: Dataset, found: FaceMap, label: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Each face's color as ``#rrggbb`` (empty where the label is missing), and what the colors mean.

    Raises:
        UserError: The data set lacks the label.
    """
    if label not in dataset.fields:
        raise UserError("the data set has no label of this name; /api/studio lists its labels.")
    from eval.drawing.scatter import color_by_label

    column = dataset.labels(label, found.split)[found.rows]
    coloring = color_by_label(label, dataset.fields[label], column)
    known = [_hex(color) if is_known else "" for color, is_known in zip(coloring.colors, coloring.known, strict=True)]
    return known, [(text, _hex(np.array(color))) for text, color in coloring.legend]


def _cached_tsne(run: Editor, dataset: Dataset, split: str, latents: np.ndarray) -> np.ndarray:
    name = f"{run.identity}-{dataset.fingerprint}-{split}-{len(latents)}.safetensors"
    path = cache_directory() / "tsne" / name
    try:
        return load_file(path)["points"]
    except (OSError, SafetensorError, KeyError):
        points = embed(latents, min(_PERPLEXITY, max(2.0, (len(latents) - 1) / _FEW)))
        save_tensors(path, {"points": points})
        return points


def _to_unit_square(places: np.ndarray) -> np.ndarray:
    low, high = places.min(axis=0), places.max(axis=0)
    return ((places - (low + high) / 2) / (max(high - low) or 1.0) + 0.5).astype(np.float32)


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)


TOOL = Tool(
    name="tsne",
    about="Maps the latents of a split to the plane with t-SNE.",
    options=TsneConfig,
    draw=draw,
    needs=("encode",),
    routes=(StudioRoute("map", face_map, "GET", name="face_map"),),
)
