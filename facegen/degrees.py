"""Labels as degrees in [-1, 1], such as the degree of smile, by which a conditional family generates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shards.base.errors import UserError, shown
from shards.dataset.dataset import Dataset


def degrees_of(labels: Tensor) -> Tensor:
    """Labels as degrees.

    Args:
        labels: Floats are degrees already, NaN where unknown. Integers are a bool label: 1, 0, or -1 where unknown.

    Returns:
        float32, NaN where unknown; a bool label becomes -1 and +1.
    """
    if labels.is_floating_point():
        return labels.float()
    return (2.0 * labels - 1).masked_fill(labels < 0, torch.nan)


def given_condition(
    model: str, condition: str | None, labels: Mapping[str, Any], num: int, of_images: bool
) -> dict[str, Tensor]:
    """The label that a model reads, among labels given to it.

    Args:
        model: Its name, for messages.
        condition: Name of that label; None if the model reads none.
        labels: ``num`` values each by name. A list holds degrees, even if they are written as whole numbers.
        num: Number of images.
        of_images: The labels describe images that the model reads, and may hold others than the condition.

    Returns:
        The condition by its name; empty without labels.

    Raises:
        UserError: A label that would be ignored, no condition among the labels, or a wrong number of values.
    """
    if not labels or (of_images and condition is None):
        return {}
    others = ", ".join(shown(name) for name in labels if name != condition)
    if condition is None:
        raise UserError(f"{model} is not conditional and reads no label; leave out {others}.")
    if condition not in labels or (others and not of_images):
        raise UserError(f"{model} reads the label '{condition}', not {others}; give that label alone.")
    given = labels[condition]
    degrees = torch.as_tensor(given if hasattr(given, "dtype") else np.array(given, np.float32))
    if degrees.shape != (num,):
        raise UserError(f"give {num} degrees of '{condition}', one for each image, not {list(degrees.shape)}.")
    return {condition: degrees}


def condition_fields(condition: str | None, dataset: Dataset) -> list[str]:
    """The label field that a model with this condition reads; none where the data set lacks it."""
    return [condition] if condition is not None and condition in dataset.fields else []


def known_degrees(dataset: Dataset, label: str, split: str) -> np.ndarray:
    """The known degrees of a split, float32.

    Raises:
        UserError: No such label, one that is not a degree, or none known.
    """
    usable = [name for name, field in dataset.fields.items() if field.kind != "class"]
    choose = f"name one of these with --model.label: {', '.join(usable) or '(it has none)'}."
    if label not in dataset.fields:
        raise UserError(f"data set {dataset.address} has no label '{label}' to take the degree from; {choose}")
    if dataset.fields[label].kind == "class":
        raise UserError(f"label '{label}' of data set {dataset.address} holds classes, not degrees; {choose}")
    degrees = degrees_of(torch.tensor(dataset.labels(label, split))).numpy()
    known = degrees[~np.isnan(degrees)]
    if not len(known):
        raise UserError(f"no image of the {split} split of {dataset.address} has the label '{label}'; {choose}")
    if np.abs(known).max() > 1:
        raise UserError(
            f"label '{label}' of data set {dataset.address} ranges from {known.min():g} to {known.max():g}, but a "
            f"degree must lie in [-1, 1]; scale it before packing, or {choose}"
        )
    return known
