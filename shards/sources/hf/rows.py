"""What a row of an image data set is, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from shards.base.errors import UserError
from shards.dataset.label_types import Scalar

Row = tuple[bytes, dict[str, Scalar]]
"""The image's file, empty where it is missing, and the labels."""
Splits = Mapping[str, Callable[[int], Iterator[Row]]]
"""By the name of a split, what returns its rows from a position on."""
_SCALARS = (str, bool, int, float)
MISSING_EXTRA = "source 'hf' needs the package datasets: pip install 'facegen[hf]'"


def labels_of(values: Mapping[str, Any], classes: Mapping[str, Sequence[str]]) -> dict[str, Scalar]:
    """The scalars of a row; classes by their names.

    Args:
        values: By column.
        classes: The names of the classes of columns that hold their numbers; -1 stands for an unknown class.
    """
    scalars = {name: value for name, value in values.items() if value is None or isinstance(value, _SCALARS)}
    labels: dict[str, Scalar] = {**scalars}
    for name, names in classes.items():
        value = labels.get(name)
        labels[name] = names[value] if isinstance(value, int) and value >= 0 else None
    return labels


def find_image_column(place: str, columns: Collection[str], images: Sequence[str], wanted: str | None) -> str:
    """The column of the images.

    Args:
        place: The data set, for the message.
        columns: All columns.
        images: Those that hold images.
        wanted: The one to take; None for the first.

    Raises:
        UserError: There is none, or not that one.
    """
    column = wanted or next(iter(images), None)
    if column is None or column not in images:
        lacking = f"no image column '{wanted}'" if wanted else "no column of images"
        raise UserError(f"{place} has {lacking}; its columns are {', '.join(columns) or 'unknown'}.")
    return column
