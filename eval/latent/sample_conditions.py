"""Conditions of a conditional model's samples: a split's own, so that samples are distributed like the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from shards.dataset.dataset import Dataset


def sample_labels(
    model: Any, dataset: Dataset, split: str, num_images: int, first: int, num: int
) -> dict[str, Tensor] | None:
    """Labels for samples ``first`` to ``first + num``: sample i gets the label of row ``i % num_images`` of the split.

    Args:
        model: As ``facegen.model.load`` returns it.
        dataset: Holds the split.
        split: The labels' split.
        num_images: How many of the split's first rows are evaluated.
        first: Number of the first sample.
        num: How many.

    Returns:
        The labels as the loader gives them; None if the model has no condition or the data set lacks its label.
    """
    if model.condition is None or model.condition not in dataset.fields:
        return None
    rows = np.arange(first, first + num) % num_images
    column = dataset.labels(model.condition, split)[rows]
    return {model.condition: torch.from_numpy(column.astype(np.float32 if column.dtype == np.float32 else np.int64))}


def condition_note(model: Any, dataset: Dataset, split: str) -> str:
    """A sentence about the samples' condition; empty for a model without one."""
    if model.condition is None:
        return ""
    if model.condition not in dataset.fields:
        return f" The data set has no label {model.condition}, so they are made without one."
    return f" Sample i has the label {model.condition} of image i of the {split} split."
