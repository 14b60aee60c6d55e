"""From values as people write them (CSV cells, JSON scalars) to typed label fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from shards.dataset.manifest import LabelField, LabelKind

Scalar = float | bool | str | None

IDENTITY_NAMES = ("identity", "person", "person_id", "subject", "subject_id")
"""Labels of these names say who the person is; in lower case."""
MAX_TEXT_CLASSES = 100
"""From this number on, texts that are all different are captions, not classes."""

_MISSING_WORDS = frozenset(("", "na", "n/a", "nan", "null", "?"))
_TRUE_WORDS = frozenset(("true", "yes", "1"))
_BOOL_WORDS = ({"true", "false"}, {"yes", "no"}, {"0", "1"}, {"-1", "1"})


def infer_field(name: str, values: Sequence[Scalar], description: str = "") -> LabelField | None:
    """Finds the kind of a column.

    A column of true/false, yes/no, whole 0/1 or whole -1/1 is a ``bool``, one of numbers a ``float``, any other a
    ``class``; so is a person (``IDENTITY_NAMES``), numbered or not. None and NaN are missing values. Classes are
    sorted, by value where all are whole numbers.

    Args:
        name: Of the column.
        values: One a sample: text from ``from_cell``, or JSON scalars.
        description: Of the field.

    Returns:
        The field; None for free text: at least ``MAX_TEXT_CLASSES`` texts, none missing, all different.
    """
    present = [value for value in values if not _is_missing(value)]
    texts = {str(value).strip().lower() for value in present}
    if not is_identity(name) and present:
        if any(texts <= words for words in _BOOL_WORDS):
            return LabelField("bool", description=description)
        if all(_as_number(value) is not None for value in present):
            return LabelField("float", description=description)
        if len({str(value) for value in present}) == len(values) >= MAX_TEXT_CLASSES:
            return None
    return class_field(present, description)


def class_field(values: Sequence[Scalar], description: str = "") -> LabelField:
    """The field of a column that is known to hold classes, numbered or named."""
    return LabelField("class", sorted_names({str(value) for value in values if not _is_missing(value)}), description)


def convert(values: Sequence[Scalar], kind: LabelKind) -> list[Scalar]:
    """Brings a column to the type of its field: float, bool or class name; None where a value is missing."""
    if kind == "float":
        return [None if _is_missing(value) else _as_number(value) for value in values]
    if kind == "bool":
        return [None if _is_missing(value) else str(value).strip().lower() in _TRUE_WORDS for value in values]
    return [None if _is_missing(value) else str(value) for value in values]


def is_identity(name: str) -> bool:
    """Whether a label of this name says who the person is."""
    return name.lower() in IDENTITY_NAMES


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names in alphabetical order, or in the order of their values where all are whole numbers."""
    names = list(names)
    numeric = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numeric else (0, name)))


def from_cell(text: str) -> str | None:
    """The text of a table's cell; None where it is empty, ``na``, ``n/a``, ``nan``, ``null`` or ``?``."""
    text = text.strip()
    return None if text.lower() in _MISSING_WORDS else text


def _is_missing(value: Scalar) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_number(value: Scalar) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
