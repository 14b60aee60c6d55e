"""A map of the latent space: t-SNE of mu (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from eval.latent.encode import encode_split
from eval.latent.faces import even_rows
from eval.latent.options import ModelOptions, check_png_path, open_data, save_png
from eval.latent.tools.tool import Tool
from facegen.model import Model
from shards.base.errors import UserError
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
        perplexity: About how many neighbors each point keeps; below N.
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
        # Not all components as eval.latent.pca finds them: of thousands of dims that takes minutes.
        points = PCA(num_components, random_state=seed).fit_transform(points)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


def latent_map(
    points: np.ndarray, dataset: Dataset, split: str, rows: np.ndarray, labels: Sequence[str]
) -> Image.Image:
    """The density of points (N, 2), and a panel colored by each of some labels.

    Args:
        points: As ``embed`` returns them.
        dataset: Where the labels are.
        split: Whose images the points are.
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
    """Split whose latents are shown."""
    color: list[str] = field(default_factory=list)
    """Labels that color the points, a panel each."""
    num: int = MAX_POINTS
    """At most this many images, spread evenly over the split."""
    perplexity: float = 30.0
    """About how many neighbors each point keeps."""
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


def draw(config: TsneConfig, model: Model) -> None:
    """Draws the map."""
    dataset = open_data(config.data, model, config.split)
    for name in config.color:
        dataset.labels(name, config.split)  # An unknown label is an error before t-SNE's minutes.
    rows = even_rows(dataset.num_samples(config.split), config.num)
    latents = encode_split(model, dataset, config.split)[rows]
    points = embed(latents, config.perplexity, config.seed)
    save_png(config.out, latent_map(points, dataset, config.split, rows, config.color))


TOOL = Tool(
    name="tsne",
    about="Lays the latents of a split out in the plane with t-SNE.",
    options=TsneConfig,
    draw=draw,
    needs=("encode",),
)
