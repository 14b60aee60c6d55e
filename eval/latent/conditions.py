"""The condition of a conditional model: the degree of one label, NaN where it is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegen.degrees import degrees_of
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset

UNKNOWN = float("nan")


def require_condition(model: Any) -> str:
    """The label that a model is conditioned on.

    Raises:
        UserError: The model has none.
    """
    if model.condition is None:
        raise UserError(
            f"{model.name} is of the family {model.family}, which has no condition; give a run of a conditional family."
        )
    return model.condition


def describe_condition(model: Any) -> dict[str, Any] | None:
    """The label, and the lowest and highest degree of the training images, as a page with sliders needs them.

    None for a model without a condition.
    """
    if model.condition is None:
        return None
    low, high = model.condition_range or (-1.0, 1.0)
    return {"label": model.condition, "low": low, "high": high}


def condition_labels(model: Any, degrees: np.ndarray) -> dict[str, Tensor]:
    """The labels that a model's ``encode``, ``decode`` and ``sample`` take, for float degrees (N,).

    Empty for a model without a condition.
    """
    if model.condition is None:
        return {}
    return {model.condition: torch.from_numpy(np.array(degrees, np.float32))}


def split_degrees(model: Any, dataset: Dataset, split: str) -> np.ndarray:
    """The degree of every image of a split, float32 (N,).

    A bool label counts as -1 and 1. NaN where the model has no condition or the label is missing.
    """
    if model.condition is None or model.condition not in dataset.fields:
        return np.full(dataset.num_samples(split), UNKNOWN, np.float32)
    return degrees_of(torch.tensor(dataset.labels(model.condition, split))).numpy()


def middle_degree(model: Any) -> float:
    """The middle of the trained range of degrees; NaN where there is none."""
    return UNKNOWN if model.condition_range is None else float(np.mean(model.condition_range))


def degree_text(degree: float) -> str:
    """A degree as pictures show it."""
    return "?" if np.isnan(degree) else f"{degree:+.2f}"
