"""Memorisation: the training faces nearest to a model's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from eval.drawing.grids import Row, face_grid
from eval.features.image_features import image_features
from eval.features.spaces import load_efflite0
from eval.latent.faces import even_rows, read_faces
from eval.latent.nearest import Points, feature_points, nearest_rows, pixel_points, pixel_views
from eval.latent.options import ModelOptions, check_png_path, open_data, save_png
from eval.latent.tools.sample import sample_images
from eval.latent.tools.tool import Tool
from facegen.model import Model
from shards.dataset.dataset import Dataset
from shards.loading.reader import check_split


def nearest_grid(samples: Sequence[np.ndarray], found: Sequence[np.ndarray], labels: Sequence[str]) -> Image.Image:
    """A row for each sample: the sample, then the faces nearest to it.

    Args:
        samples: uint8 (H, W, C) each.
        found: For each sample, its nearest faces, uint8 (k, H, W, C), the nearest first.
        labels: At the left of each row.
    """
    rows = [
        Row(np.concatenate([sample[None], faces]), label)
        for sample, faces, label in zip(samples, found, labels, strict=True)
    ]
    return face_grid(rows, ["sample", *(f"{rank}." for rank in range(1, len(found[0]) + 1))])


@dataclass(kw_only=True)
class NeighborsConfig(ModelOptions):
    """Options of a search for neighbors."""

    data: str
    """Data set that the run was trained on."""
    out: str
    """PNG file: the samples nearest to a training face, each beside its nearest faces."""
    split: str = "train"
    """Split to search for neighbors."""
    held_out: str = "test"
    """Split of real faces, as many as samples: their distances show what is usual for a new face."""
    space: Literal["efflite0", "pixels"] = "efflite0"
    """Distances of ImageNet features, or root mean squared errors of pixels on [-1, 1]."""
    num_samples: int = 200
    """Samples to search for."""
    num: int = 8
    """Samples to show."""
    num_nearest: int = 5
    """Training faces to show beside each sample."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        check_png_path("out", self.out)
        for name in ("num_samples", "num", "num_nearest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.split == self.held_out:
            raise ValueError("split and held_out must be two different splits.")

    @property
    def outputs(self) -> list[str]:
        """The picture."""
        return [self.out]


def draw(config: NeighborsConfig, model: Model) -> None:
    """Prints how near samples and held-out faces are to the training faces, and draws the nearest samples."""
    dataset = open_data(config.data, model, config.split)
    check_split(dataset, config.held_out)
    samples = sample_images(model, config.num_samples, seed=config.seed)
    rows = even_rows(dataset.num_samples(config.held_out), config.num_samples)
    held_out = read_faces(model, dataset, config.held_out, rows).images
    queries, points = _in_space(config, model, dataset, np.concatenate([samples, held_out]))
    nearest = nearest_rows(queries, points, min(config.num_nearest, dataset.num_samples(config.split)))

    closest = nearest.distances[:, 0]
    print(f"distance to the nearest face of {config.split} ({config.space}): smallest, median")
    for name, part in (("samples", closest[: len(samples)]), (f"{config.held_out} faces", closest[len(samples) :])):
        print(f"  {name:12} {part.min():.3f}  {np.median(part):.3f}")
    shown = np.argsort(closest[: len(samples)], kind="stable")[: config.num]
    found = [read_faces(model, dataset, config.split, nearest.rows[sample]).images for sample in shown]
    save_png(config.out, nearest_grid(list(samples[shown]), found, [f"{closest[sample]:.3f}" for sample in shown]))


def _in_space(config: NeighborsConfig, model: Model, dataset: Dataset, images: np.ndarray) -> tuple[np.ndarray, Points]:
    """Images, and those of the searched split, as points of the chosen space."""
    if config.space == "pixels":
        return pixel_views(images)[0], pixel_points(dataset, config.split)
    space = load_efflite0(model.device)
    return image_features(space, [images], len(images), "samples"), feature_points(space, dataset, config.split)


TOOL = Tool(
    name="neighbors",
    about="Checks whether samples are copies of training faces.",
    options=NeighborsConfig,
    draw=draw,
    needs=("sample",),
)
