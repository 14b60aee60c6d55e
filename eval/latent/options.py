"""Options that the latent tools' commands share, and the model and data they name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from eval.drawing.animation import check_animation_path, save_animation
from eval.latent.photo_framing import AlignChoice, check_align, note_other_framing
from facegen.model import Model, load
from shards.base.errors import UserError
from shards.base.files import check_writable, make_folder, replacing, writing_to
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.images.reading import parse_crop
from shards.loading.reader import check_split


@dataclass(kw_only=True)
class Options:
    """Base of all option groups: each checks its own options, and a command can combine several."""

    def __post_init__(self) -> None:
        """Nothing to check."""

    @property
    def outputs(self) -> list[str]:
        """The files that the command writes at its end."""
        return []

    def check_outputs(self) -> None:
        """Checks before the work that they can be written.

        Raises:
            UserError: One cannot.
        """
        for path in self.outputs:
            check_writable(path)


@dataclass(kw_only=True)
class ModelOptions(Options):
    """The model, and the device it runs on."""

    run: str
    """Run directory (its newest snapshot) or snapshot directory; RUN:NAME samples with a sampler fitted to the run."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; null takes the average where there is one."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a CUDA device where there is one."""


@dataclass(kw_only=True)
class FaceOptions(Options):
    """The faces: photos, or images of a data set."""

    images: list[str] = field(default_factory=list)
    """Image files of your own, such as photos; the face should fill most of the crop, as in the training images."""
    crop: str = "center"
    """Part of each photo: center (largest square) or left,upper,right,lower in pixels or as fractions."""
    align: AlignChoice = "auto"
    """Find the face in each photo and frame it as this template does, instead of cropping. auto takes the framing of
    the run's training data where a template has it, and --crop is not given; none only crops. Needs the extra align."""
    align_margin: float = 0.0
    """With --align TEMPLATE: the margin that the data was packed with."""
    data: str | None = None
    """Packed data set."""
    split: str = "test"
    """Split that --rows, --sample_keys and --num count in."""
    rows: list[int] = field(default_factory=list)
    """Rows of the split, from 0."""
    sample_keys: list[str] = field(default_factory=list)
    """Keys of samples of the split."""
    num: int = 8
    """Faces spread evenly over the split, where neither photos nor rows nor keys are given."""
    degree: float | None = None
    """For conditional models: the degree of these faces, instead of the data set's own."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        parse_crop(self.crop, None)
        check_align(self.align, self.align_margin)
        if self.crop != "center" and self.align not in ("auto", "none"):
            raise ValueError("--align and --crop exclude each other; give one of them.")
        if (self.rows or self.sample_keys) and not self.data:
            raise ValueError("--rows and --sample_keys need --data DIR, their data set.")
        if self.num < 1:
            raise ValueError(f"num must be at least 1, not {self.num}.")
        if self.degree is not None and not math.isfinite(self.degree):
            raise ValueError(f"degree must be a number, not {self.degree}.")


@dataclass(kw_only=True)
class PictureOptions(Options):
    """The files to write."""

    out: str
    """PNG file for the grid."""
    animation: str | None = None
    """WebP or GIF file for an animation."""

    def __post_init__(self) -> None:
        """Rejects file names of other formats."""
        super().__post_init__()
        check_png_path("out", self.out)
        if self.animation is not None:
            check_animation_path(self.animation)

    @property
    def outputs(self) -> list[str]:
        """The grid, and the animation where one is asked for."""
        return [self.out, *([self.animation] if self.animation else [])]

    def save_grid(self, grid: Image.Image) -> None:
        """Writes the grid and prints its path."""
        save_png(self.out, grid)

    def save_frames(self, frames: Iterable[Image.Image]) -> None:
        """Writes the animation where one is asked for, and prints its path."""
        if self.animation is not None:
            save_animation(self.animation, list(frames))
            print(f"wrote {self.animation}")


def check_png_path(option: str, path: str) -> None:
    """Checks the file name of a picture before any work is done.

    Raises:
        ValueError: Another suffix.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{option} is {path}; it must end in .png.")


def save_png(path: str, image: Image.Image) -> None:
    """Writes a picture, makes the folders above it, and prints its path."""
    make_folder(Path(path).parent)
    with writing_to(path), replacing(Path(path), durable=False) as temporary:
        image.save(temporary, "PNG")
    print(f"wrote {path}")


def open_model(options: ModelOptions, *needs: str) -> Model:
    """Loads the model.

    Args:
        options: The model's.
        needs: What the model must be able to do, in the words of ``Model.can``.

    Raises:
        UserError: There is no snapshot, or the model lacks an ability.
    """
    use_cuda = options.device == "auto" and torch.cuda.is_available()
    model = load(options.run, device="cuda" if use_cuda else "cpu", weights=options.weights)
    missing = [ability for ability in needs if ability not in model.can]
    if missing:
        raise UserError(model.lacking(*missing))
    return model


def open_data(path: str, model: Model, *splits: str) -> Dataset:
    """Opens a data set with a model's image size and these splits; notes another framing of faces.

    Raises:
        UserError: No data set, an empty split, or images of another size.
    """
    dataset = open_dataset(path)
    for split in splits:
        check_split(dataset, split)
    image = dataset.image
    if tuple(model.image_shape) != (image.channels, image.height, image.width):
        channels, height, width = model.image_shape
        raise UserError(
            f"{model.name} was trained on images of {height}x{width}x{channels} (height x width x channels) and "
            f"{path} holds {image.height}x{image.width}x{image.channels}; pack the data set at the run's size."
        )
    note_other_framing(model, dataset)
    return dataset
