"""Numbers from publications, beside those of a report and apart from them: nothing here has measured them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eval.reports.results import TextTable
from shards.base.records import as_record
from shards.base.yaml_text import read_yaml

_ADVICE = "list entries with name, number, value, source and protocol"


@dataclass(frozen=True)
class PublishedNumber:
    """An entry of the file."""

    name: str
    """Of the system."""
    number: str
    """What was measured, such as FID."""
    value: float
    source: str
    """Publication, with the table or page."""
    protocol: str
    """Data set, size, number of images: what has to agree before two numbers can be compared."""


def read_published(path: str) -> list[PublishedNumber]:
    """Reads a YAML file with a list of numbers.

    Raises:
        UserError: It cannot be read, or an entry lacks a field, has another one, or one of another type.
    """
    return as_record(read_yaml(Path(path), _ADVICE), list[PublishedNumber], path, _ADVICE)


def published_table(numbers: list[PublishedNumber]) -> TextTable:
    """The numbers as a table of a report."""
    rows = [[one.name, one.source, one.protocol, one.number, f"{one.value:g}"] for one in numbers]
    caption = "From publications, not measured here: their protocols can differ from this report's in any respect."
    return TextTable(
        "Published numbers", caption, ["", "source", "protocol", "number", "value"], rows, num_text_columns=4
    )
