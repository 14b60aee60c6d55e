"""Loads the runs that a command line names, and gives them distinct names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch

from facegen.model import Model, load
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


def open_runs(
    paths: Sequence[str], dataset: Dataset, device: torch.device, weights: Literal["ema", "raw"] | None = None
) -> list[tuple[str, Model]]:
    """Loads the runs and gives them distinct names.

    Raises:
        UserError: No snapshot, or a model of images of another size than the data set's.
    """
    models = [open_run(path, dataset, device, weights) for path in paths]
    return list(zip(distinct_names(models), models, strict=True))


def open_run(path: str, dataset: Dataset, device: torch.device, weights: Literal["ema", "raw"] | None = None) -> Model:
    """Loads a run.

    Raises:
        UserError: As ``open_runs``.
    """
    model, image = load(path, device=device, weights=weights), dataset.image
    if tuple(model.image_shape) != (image.channels, image.height, image.width):
        theirs = "x".join(map(str, (*model.image_shape[1:], model.image_shape[0])))
        raise UserError(
            f"{path} was trained on images of {theirs} (height x width x channels) and {dataset.address} holds "
            f"{image.height}x{image.width}x{image.channels}; pack the data set at the run's size."
        )
    return model


def distinct_names(models: Sequence[Any]) -> list[str]:
    """The name of each run, with its sampler; equal names get the number of their place."""
    names = [f"{model.name}:{model.sampler}" if model.sampler else model.name for model in models]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]


def file_name(name: str) -> str:
    """A run's name as the beginning of a file's; two names never give the same."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    return plain if plain == name else f"{plain}~{hashlib.sha256(name.encode()).hexdigest()[:6]}"
