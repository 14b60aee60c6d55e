"""New faces from a trained model: ``python -m eval.sample RUN --out samples.png`` or ``--files DIR``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.drawing.frames import wall
from eval.drawing.grids import Row, face_grid
from eval.latent.conditions import UNKNOWN, require_condition
from eval.latent.options import ModelOptions, check_png_path, open_model, save_png
from eval.latent.prior_samples import STD_ROWS, sample_batches, sample_images
from facegen.model import Model
from shards.base import cli
from shards.base.files import make_folder

MAX_IN_GRID = 2000


@dataclass(kw_only=True)
class SampleConfig(ModelOptions):
    """Options of samples."""

    out: str | None = None
    """PNG file for a grid."""
    files: str | None = None
    """Folder for single PNG files, named by the number of the sample."""
    num: int = 72
    """How many; with --std_rows, in each row."""
    first: int = 0
    """Number of the first: sample i of a seed is always the same face."""
    seed: int = 0
    """Seed of the latents."""
    std: float = 1.0
    """Standard deviation of the latents; 1 is the prior."""
    std_rows: bool = False
    """The same latents with standard deviations from 0.25 to 2 in steps of 0.25, a row each."""
    columns: int = 12
    """Faces in a row of the grid."""
    degree: float | None = None
    """For conditional models: degree of the label; without it the model leaves the label open."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.out is None and self.files is None:
            raise ValueError("nothing to write: give --out FILE.png for a grid, --files DIR for single files, or both.")
        if self.out is not None:
            check_png_path("out", self.out)
            if self.num > MAX_IN_GRID:
                raise ValueError(f"a grid holds up to {MAX_IN_GRID:,} faces, not {self.num:,}; use --files alone.")
        for name, least in (("num", 1), ("columns", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not (math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"std must be 0 or more, not {self.std}.")
        if self.degree is not None and not math.isfinite(self.degree):
            raise ValueError(f"degree must be a number, not {self.degree}.")
        if self.std_rows and self.files is not None:
            raise ValueError("--std_rows makes a grid; leave out --files.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        SampleConfig,
        prog="python -m eval.sample",
        description="Samples new faces from a trained model's prior.",
        positional=["run"],
        args=args,
    )
    model = open_model(config, "sample")
    if config.degree is not None:
        require_condition(model)
    if config.std_rows:
        save_std_rows(config, model)
    else:
        save_samples(config, model)


def save_std_rows(config: SampleConfig, model: Model) -> None:
    """The grid with a row for each standard deviation."""
    assert config.out is not None
    options = {"seed": config.seed, "degree": _degree(config), "first": config.first}
    num = min(config.num, config.columns)
    save_png(
        config.out,
        face_grid([Row(sample_images(model, num, std=std, **options), f"{std:.2f}") for std in STD_ROWS]),
    )


def save_samples(config: SampleConfig, model: Model) -> None:
    """The grid, single files, or both; only a grid keeps the images in memory."""
    kept: list[np.ndarray] = []
    folder = make_folder(config.files) if config.files else None
    number = config.first
    with tqdm(total=config.num, desc="samples", leave=False, disable=None, unit="image") as progress:
        for images in sample_batches(
            model, config.num, seed=config.seed, std=config.std, degree=_degree(config), first=config.first
        ):
            if config.out:
                kept.append(images)
            for image in images if folder else ():
                Image.fromarray(image.squeeze()).save(folder / f"sample_{number:08d}.png")  # type: ignore[operator]
                number += 1
            progress.update(len(images))
    if folder:
        print(f"wrote {config.num:,} files to {folder}")
    if config.out:
        save_png(config.out, wall(np.concatenate(kept), config.columns))


def _degree(config: SampleConfig) -> float:
    return UNKNOWN if config.degree is None else config.degree


if __name__ == "__main__":
    cli.run(main)
