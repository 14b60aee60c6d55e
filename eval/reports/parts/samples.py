"""Samples: as they come, and at other standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.drawing.grids import Row, face_grid
from eval.latent.conditions import degree_text, split_degrees
from eval.latent.sample_conditions import condition_note, sample_labels
from eval.latent.tools.sample import STD_ROWS
from eval.reports.context import Protocol
from eval.reports.part import Drawing, Part, RunPicture
from eval.reports.run_context import RunContext
from facegen.pixels import to_uint8

NUM_ROWS, NUM_COLUMNS = 6, 12


def sample_grid(run: RunContext) -> Drawing:
    """The first samples."""
    protocol = run.protocol
    num_columns = min(NUM_COLUMNS, protocol.num_samples)
    num_rows = min(NUM_ROWS, protocol.num_samples // num_columns)
    images = samples(run.model, protocol, 0, num_rows * num_columns)
    note = condition_note(run.model, protocol.dataset, protocol.split)
    caption = f"The first {len(images)} of seed {protocol.seed}, not chosen.{note}"
    return Drawing(face_grid([Row(row) for row in np.split(images, num_rows)]), caption)


def std_grid(run: RunContext) -> Drawing:
    """The same latents, a row for each standard deviation."""
    model, protocol = run.model, run.protocol
    rows = [Row(samples(model, protocol, 0, NUM_COLUMNS, std), f"{std:.2f}") for std in STD_ROWS]
    caption = "The same latents times a standard deviation from 0.25 to 2, at the left; 1 is "
    caption += f"the sampler {model.sampler}." if model.sampler else "the prior."
    if model.condition not in protocol.dataset.fields:
        return Drawing(face_grid(rows), caption)
    degrees = split_degrees(model, protocol.dataset, protocol.split)[np.arange(NUM_COLUMNS) % protocol.num_images]
    caption += f" Above: the degree of {model.condition} that each is made with."
    return Drawing(face_grid(rows, [degree_text(degree) for degree in degrees]), caption)


def samples(model: Any, protocol: Protocol, first: int, num: int, std: float = 1.0) -> np.ndarray:
    """Samples as the distances are measured on them, uint8 (num, H, W, C)."""
    labels = sample_labels(model, protocol.dataset, protocol.split, protocol.num_images, first, num)
    return to_uint8(model.sample(num, seed=protocol.seed, std=std, labels=labels, first=first)).cpu().numpy()


PARTS = [
    Part(
        name="samples",
        content="samples, also at other standard deviations",
        needs=("sample",),
        group="Samples",
        pictures=(
            RunPicture("samples.png", "Samples", sample_grid),
            RunPicture("samples_by_std.png", "Samples by standard deviation", std_grid),
        ),
        of_stand_ins=True,
    )
]
