"""Counts of labels: a histogram of each label, and a table of gender and smile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField

GENDER_NAMES = ("Male", "gender", "presentation")
SMILE_NAMES = ("Smiling", "smile")
"""Names by which a label of gender or smile is found, the first one first, if the user names none."""
_NUM_BINS = 24
_MAX_BARS = 24


@dataclass(frozen=True)
class Histogram:
    """Counts of one label.

    Attributes:
        title: The label.
        names: Of the bars.
        counts: int64, images in each bar; for a label of very many classes, classes in each bar.
        note: Such as the number of missing values.
        is_scale: Whether the bars are consecutive intervals, not names.
    """

    title: str
    names: tuple[str, ...]
    counts: np.ndarray
    note: str
    is_scale: bool


@dataclass(frozen=True)
class CrossTable:
    """Images by two labels: ``counts`` int64 (rows, columns); images that lack one of them are ``num_missing``."""

    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: np.ndarray
    num_missing: int


def histogram(name: str, label: LabelField, column: np.ndarray) -> Histogram:
    """Counts the values of a label.

    Classes are bars in order of size, and the smallest share one. If there are more than ten times as many classes as
    bars, such as people, the bars count classes by their number of images.
    """
    present = column[~np.isnan(column)] if label.kind == "float" else column[column >= 0]
    num_missing = len(column) - len(present)
    note = f"{num_missing:,} missing" if num_missing else ""
    if label.kind == "bool":
        counts = np.bincount(present, minlength=2)
        return Histogram(name, ("no", "yes"), counts, note, is_scale=False)
    if label.kind == "float":
        counts, edges = np.histogram(present, bins=_NUM_BINS) if len(present) else (np.zeros(1, int), np.zeros(2))
        names = tuple(f"{low:.3g} to {high:.3g}" for low, high in zip(edges[:-1], edges[1:], strict=True))
        return Histogram(name, names, counts, note, is_scale=True)
    counts = np.bincount(present, minlength=len(label.classes))
    if len(label.classes) > 10 * _MAX_BARS:
        return _images_per_class(name, counts[counts > 0], note)
    order = np.argsort(-counts, kind="stable")
    shown, rest = order[:_MAX_BARS], counts[order[_MAX_BARS:]]
    names = tuple(label.classes[position] for position in shown)
    if not len(rest):
        return Histogram(name, names, counts[shown], note, is_scale=False)
    others = f"{len(rest)} others"
    return Histogram(name, (*names, others), np.append(counts[shown], rest.sum()), note, is_scale=False)


def cross_table(dataset: Dataset, row_label: str, column_label: str) -> CrossTable:
    """Counts images by two labels, over all splits.

    Raises:
        UserError: A label that the data set does not have.
    """
    rows, row_groups = _groups(dataset, row_label)
    columns, column_groups = _groups(dataset, column_label)
    has_both = (row_groups >= 0) & (column_groups >= 0)
    counts = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(counts, (row_groups[has_both], column_groups[has_both]), 1)
    return CrossTable(row_label, column_label, rows, columns, counts, int((~has_both).sum()))


def find_label(dataset: Dataset, wanted: str | None, names: tuple[str, ...]) -> str | None:
    """The label that the user named, else the first of ``names`` that the data set has."""
    return wanted or next((name for name in names if name in dataset.fields), None)


def all_values(dataset: Dataset, name: str) -> np.ndarray:
    """A label's column over all splits.

    Raises:
        UserError: A label that the data set does not have.
    """
    return np.concatenate([dataset.labels(name, split) for split in dataset.splits])


def _groups(dataset: Dataset, name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the groups that a label forms, and the group of each image, -1 if the label is missing."""
    column = all_values(dataset, name)
    label = dataset.fields[name]
    if label.kind == "bool":
        return (f"not {name}", name), column.astype(np.int64)
    if label.kind == "class":
        return label.classes, column.astype(np.int64)
    # A degree is split at 0, any other number in the middle of its range.
    low, high = np.nanmin(column, initial=np.inf), np.nanmax(column, initial=-np.inf)
    middle = 0.0 if low < 0 < high else float(low + high) / 2 if low <= high else 0.0
    groups = np.where(np.isnan(column), -1, column > middle).astype(np.int64)
    return (f"{name} up to {middle:.3g}", f"{name} above {middle:.3g}"), groups


def _images_per_class(name: str, counts: np.ndarray, note: str) -> Histogram:
    edges = (1, 2, 3, 4, 5, 10, 20, 50, 100, 1_000, np.inf)
    binned, _ = np.histogram(counts, bins=edges)
    names = tuple(
        f"{low}" if high - low == 1 else f"{low} to {high - 1}" if high < np.inf else f"{low} or more"
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    )
    title = f"images of each {name}"
    return Histogram(title, names, binned, ", ".join(filter(None, (f"{len(counts):,} classes", note))), is_scale=True)
