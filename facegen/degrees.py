"""Labels as degrees in [-1, 1], such as the degree of smile, by which a conditional family generates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shards.base.errors import UserError
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
    degrees = degrees_of(torch.from_numpy(dataset.labels(label, split))).numpy()
    known = degrees[~np.isnan(degrees)]
    if not len(known):
        raise UserError(f"no image of the {split} split of {dataset.address} has the label '{label}'; {choose}")
    if np.abs(known).max() > 1:
        raise UserError(
            f"label '{label}' of data set {dataset.address} ranges from {known.min():g} to {known.max():g}, but a "
            f"degree must lie in [-1, 1]; scale it before packing, or {choose}"
        )
    return known
