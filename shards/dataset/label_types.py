"""From values as people write them (CSV cells, JSON scalars) to typed label fields."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from shards.base.errors import UserError
from shards.base.printing import printable
from shards.dataset.manifest import LabelField, LabelKind

Scalar = float | bool | str | None

IDENTITY_NAMES = ("identity", "person", "person_id", "subject", "subject_id")
"""Labels of these names say who the person is; in lower case."""
MAX_TEXT_CLASSES = 100
"""From this number on, texts that are all different are captions, not classes."""

MAX_NUMBER = 3.4028234663852886e38
"""Largest number of 32 bits; columns hold no others."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)
"""What ``float`` reads, but for ``1_2`` and ``nan``."""
_NUM_SHOWN = 30
_MISSING_WORDS = frozenset(("", "na", "n/a", "nan", "null", "?"))
_TRUE_WORDS = frozenset(("true", "yes", "1"))
_BOOL_WORDS = ({"true", "false"}, {"yes", "no"}, {"0", "1"}, {"-1", "1"})


def infer_field(name: str, values: Sequence[Scalar], description: str = "") -> LabelField | None:
    """Finds the kind of a column.

    A column of true/false, yes/no, whole 0/1 or whole -1/1 is a ``bool``, one of numbers a ``float``, any other a
    ``class``; so is a person (``IDENTITY_NAMES``), numbered or not. None, NaN and, among numbers, those beyond
    ``MAX_NUMBER`` are missing values. Classes are sorted, by value where all are whole numbers.

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
        if all(as_number(value) is not None for value in present):
            return LabelField("float", description=description)
        if len({str(value) for value in present}) == len(values) >= MAX_TEXT_CLASSES:
            return None
    return class_field(present, description)


def infer_fields(
    rows: Sequence[Mapping[str, Scalar]], word: str = "Label", classes: Collection[str] = ()
) -> tuple[dict[str, LabelField], list[str]]:
    """Finds the kind of each label of a data set.

    Args:
        rows: The labels of each sample; a sample may lack some.
        word: What the data set calls a label, as the start of a sentence.
        classes: Labels that are known to hold classes.

    Returns:
        The fields, in the order in which the rows name them, and sentences for the user: free text that was left out,
        and ``doubts``.
    """
    fields, notes = {}, []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        field = class_field(values) if name in classes else infer_field(name, values)
        if field is None:
            notes.append(f"{word} '{name}' is free text (all values differ) and was left out.")
        else:
            fields[name] = field
            notes += doubts(name, values, field.kind) if name not in classes else []
    return fields, notes


def find_identity(fields: Mapping[str, LabelField], wanted: str | None, word: str = "label") -> str | None:
    """The class that names the person: the wanted one, else the first of ``IDENTITY_NAMES``.

    Raises:
        UserError: The wanted one is missing, or is not a class.
    """
    names = [name for name, field in fields.items() if field.kind == "class"]
    if wanted is not None and wanted not in names:
        raise UserError(
            f"there is no {word} '{wanted}' of people's names; class {word}s are {', '.join(names) or 'missing'}."
        )
    return wanted or next((name for name in names if is_identity(name)), None)


def doubts(name: str, values: Sequence[Scalar], kind: LabelKind) -> list[str]:
    """What about a column may be a mistake in the input, as sentences for the user.

    Args:
        name: As for ``infer_field``.
        values: As for ``infer_field``.
        kind: What ``infer_field`` found.
    """
    present = [value for value in values if not _is_missing(value)]
    numbers = [as_number(value) for value in present]
    if kind == "float":
        flags = [value for value in present if isinstance(value, bool)]
        if flags:
            return [f"Label '{name}' became numbers, although {len(flags)} of {len(present)} values are true or false."]
        beyond = [value for value, number in zip(present, numbers, strict=True) if not _fits(number)]
        if beyond:
            return [
                f"Label '{name}': {len(beyond)} of {len(present)} numbers are infinite or too large for 32 bits "
                f"(first: {_shortened(beyond[0])}) and count as missing."
            ]
    if kind == "class" and not is_identity(name):
        flags = min(([v for v in present if str(v).strip().lower() not in words] for words in _BOOL_WORDS), key=len)
        texts = [value for value, number in zip(present, numbers, strict=True) if number is None]
        for odd, are, is_meant in ((flags, "no yes or no", "has two values"), (texts, "not numbers", "is a number")):
            if 0 < 2 * len(odd) < len(present):
                return [
                    f"Label '{name}' became classes, since {len(odd)} of {len(present)} values are {are} (first: "
                    f"{_shortened(odd[0])}); if it {is_meant}, fix them."
                ]
    return []


def class_field(values: Sequence[Scalar], description: str = "") -> LabelField:
    """The field of a column that is known to hold classes, numbered or named."""
    return LabelField("class", sorted_names({str(value) for value in values if not _is_missing(value)}), description)


def convert(values: Sequence[Scalar], kind: LabelKind) -> list[Scalar]:
    """Brings a column to the type of its field: float, bool or class name; None where a value is missing."""
    if kind == "float":
        numbers = [None if _is_missing(value) else as_number(value) for value in values]
        return [number if _fits(number) else None for number in numbers]
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
    # By length, then digit by digit: Python refuses to read numbers of more than 4,300 digits.
    values = {name: name.lstrip("0") for name in names} if numeric else dict.fromkeys(names, "")
    return tuple(sorted(names, key=lambda name: (len(values[name]), values[name], name)))


def from_cell(text: str) -> str | None:
    """The text of a table's cell; None where it is empty, ``na``, ``n/a``, ``nan``, ``null`` or ``?``."""
    text = text.strip()
    return None if text.lower() in _MISSING_WORDS else text


def _is_missing(value: Scalar) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_number(value: Scalar) -> float | None:
    """The number that a value is or writes, infinite where it is too large; None for other text."""
    if value is None or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON may hold whole numbers of any length.
        return math.inf


def _fits(number: float | None) -> bool:
    return number is not None and abs(number) <= MAX_NUMBER


def _shortened(value: Scalar) -> str:
    return printable(str(value)[:_NUM_SHOWN])
