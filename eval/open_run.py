"""Runs as commands name them: ``RUN`` with its prior, or ``RUN:NAME`` with a sampler that was fitted to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from facegen.model import Model, load
from shards.cli import UserError
from shards.dataset import Dataset


def open_runs(
    paths: Sequence[str], dataset: Dataset, device: torch.device, weights: Literal["ema", "raw"] | None = None
) -> list[tuple[str, Model]]:
    """Loads the runs and names them apart.

    Raises:
        UserError: No snapshot, or a model of other images than the data set's.
    """
    models = [open_run(path, device, weights) for path in paths]
    image = dataset.image
    for path, model in zip(paths, models, strict=True):
        if tuple(model.image_shape) != (image.channels, image.height, image.width):
            theirs = "x".join(map(str, (*model.image_shape[1:], model.image_shape[0])))
            raise UserError(
                f"{path} was trained on images of {theirs} (height x width x channels) and {dataset.root} holds "
                f"{image.height}x{image.width}x{image.channels}; pack the data set at the run's size."
            )
    return named_apart(models)


def named_apart(models: Sequence[Model]) -> list[tuple[str, Model]]:
    """Models with the names that tables and pictures show: a sampler's behind a colon, a number where two are alike."""
    names = [f"{model.name}:{model.sampler}" if model.sampler else model.name for model in models]
    return [
        (name if names.count(name) == 1 else f"{name} ({number})", model)
        for number, (name, model) in enumerate(zip(names, models, strict=True), start=1)
    ]


def open_run(path: str, device: torch.device, weights: Literal["ema", "raw"] | None = None) -> Model:
    """Loads ``RUN`` with its prior, or ``RUN:NAME`` with a sampler."""
    run, colon, sampler = path.rpartition(":")
    if colon and not Path(path).exists():
        return load(run, device=device, weights=weights, sampler=sampler)
    return load(path, device=device, weights=weights)
