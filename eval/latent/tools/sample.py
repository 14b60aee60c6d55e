"""Samples: new faces from the prior, any number of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from eval.drawing.frames import wall
from eval.drawing.grids import Row, face_grid
from eval.latent.conditions import UNKNOWN, condition_labels, require_condition
from eval.latent.encode import BATCH_SIZE
from eval.latent.options import ModelOptions, check_png_path, save_png
from eval.latent.tools.tool import Tool
from facegen.model import Model
from facegen.pixels import to_uint8
from shards.base.files import make_folder, replacing, writing_to
from shards.base.progress import ProgressLine

STD_ROWS = tuple(np.arange(1, 9) * 0.25)
"""Standard deviations from 0.25 to 2."""
MAX_IN_GRID = 2000


def sample_batches(
    model: Any, num: int, *, seed: int = 0, std: float = 1.0, degree: float = UNKNOWN, first: int = 0
) -> Iterator[np.ndarray]:
    """Yields samples ``first`` to ``first + num`` of a seed, a batch at a time.

    Args:
        model: One that samples.
        num: Number of samples.
        seed: Sample i of a seed is always the same face.
        std: Standard deviation of the latents; 1 is the prior.
        degree: Condition of a conditional model; NaN leaves it open.
        first: Index of the first sample.

    Yields:
        uint8 (n, H, W, C).
    """
    for start in range(first, first + num, BATCH_SIZE):
        count = min(BATCH_SIZE, first + num - start)
        labels = condition_labels(model, np.full(count, degree))
        yield to_uint8(model.sample(count, seed=seed, std=std, labels=labels, first=start)).cpu().numpy()


def sample_images(model: Any, num: int, **options: Any) -> np.ndarray:
    """The same as one array, uint8 (num, H, W, C)."""
    return np.concatenate(list(sample_batches(model, num, **options)))


@dataclass(kw_only=True)
class SampleConfig(ModelOptions):
    """Options of samples."""

    out: str | None = None
    """PNG file for a grid."""
    files: str | None = None
    """Folder for single PNG files, named by the index of the sample."""
    num: int = 72
    """Number of samples; with --std_rows, in each row."""
    first: int = 0
    """Index of the first sample: sample i of a seed is always the same face."""
    seed: int = 0
    """Seed of the latents."""
    std: float = 1.0
    """Standard deviation of the latents; 1 is the prior."""
    std_rows: bool = False
    """The same latents with standard deviations from 0.25 to 2 in steps of 0.25, one row each."""
    columns: int = 12
    """Faces in a row of the grid."""
    degree: float | None = None
    """For conditional models: degree of the label; null leaves the label open."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.out is None and self.files is None:
            raise ValueError("nothing to write: give --out FILE.png for a grid, --files DIR for single files, or both.")
        if self.out is not None:
            check_png_path("out", self.out)
            if self.num > MAX_IN_GRID:
                raise ValueError(f"a grid holds up to {MAX_IN_GRID:,} faces, not {self.num:,}; give only --files.")
        for name, least in (("num", 1), ("columns", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not (math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"std must be 0 or more, not {self.std}.")
        if self.degree is not None and not math.isfinite(self.degree):
            raise ValueError(f"degree must be a number, not {self.degree}.")
        if self.std_rows and self.files is not None:
            raise ValueError("--std_rows makes a grid; leave out --files.")

    @property
    def outputs(self) -> list[str]:
        """The grid; single files are written from the start."""
        return [self.out] if self.out else []


def draw(config: SampleConfig, model: Model) -> None:
    """Writes what the options name: a row for each standard deviation, a grid, single files."""
    if config.degree is not None:
        require_condition(model)
    degree = UNKNOWN if config.degree is None else config.degree
    options: dict[str, Any] = {"seed": config.seed, "first": config.first, "degree": degree}
    if config.std_rows:
        assert config.out is not None
        num = min(config.num, config.columns)
        rows = [Row(sample_images(model, num, std=std, **options), f"{std:.2f}") for std in STD_ROWS]
        save_png(config.out, face_grid(rows))
    else:
        _save_samples(config, sample_batches(model, config.num, std=config.std, **options))


def _save_samples(config: SampleConfig, batches: Iterator[np.ndarray]) -> None:
    """The grid, single files, or both; only a grid keeps the images in memory."""
    kept: list[np.ndarray] = []
    folder = make_folder(config.files) if config.files else None
    number = config.first
    with ProgressLine("samples", config.num) as progress:
        for images in batches:
            if config.out:
                kept.append(images)
            for image in images if folder else ():
                path = folder / f"sample_{number:08d}.png"  # type: ignore[operator]
                with writing_to(path), replacing(path, durable=False) as temporary:
                    Image.fromarray(image.squeeze()).save(temporary, "PNG")
                number += 1
            progress.update(len(images))
    if folder:
        print(f"wrote {config.num:,} files to {folder}")
    if config.out:
        save_png(config.out, wall(np.concatenate(kept), config.columns))


TOOL = Tool(
    name="sample",
    about="Samples new faces from a trained model's prior.",
    options=SampleConfig,
    draw=draw,
    needs=("sample",),
)
