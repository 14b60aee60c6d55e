"""The known factors of a data set's images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.factors.scores import KnownFactors
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.sources.synthetic.source import factor_names


def ground_truth(dataset: Dataset) -> tuple[str, ...]:
    """Names of the independent factors of rendered faces, recognized by their labels; empty for other data.

    Factors whose distribution depends on another factor are left out: a code with one dim for each of them would count
    as entangled.
    """
    specs = factor_names()
    if not specs.keys() <= dataset.fields.keys():
        return ()
    return tuple(name for name, spec in specs.items() if not spec.depends_on)


def read_factors(dataset: Dataset, split: str, num_images: int, names: Sequence[str]) -> KnownFactors:
    """Reads labels of the first images of a split as factors.

    Args:
        dataset: Data set with the labels.
        split: One of its splits.
        num_images: Number of images.
        names: Labels; constant ones are left out.

    Raises:
        UserError: A label that the data set or some image lacks, or no label that varies.
    """
    kept: dict[str, np.ndarray] = {}
    for name in names:
        column = dataset.labels(name, split)[:num_images].astype(np.float64)
        label = dataset.fields[name]
        num_missing = int((np.isnan(column) if label.kind == "float" else column == label.missing).sum())
        if num_missing:
            raise UserError(f"{num_missing} of {len(column)} images have no label '{name}'; choose other factors.")
        if len(np.unique(column)) > 1:
            kept[name] = column
    if not kept:
        raise UserError(f"none of the factors {', '.join(names)} varies over the images.")
    is_class = np.array([dataset.fields[name].kind != "float" for name in kept])
    return KnownFactors(tuple(kept), np.stack(list(kept.values()), axis=1), is_class)
