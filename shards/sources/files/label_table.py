"""Label files of the folder source: CSV or JSONL, joined to images by relative path, file name or stem."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shards.base.errors import UserError
from shards.base.records import parse_json
from shards.base.retrying import persistently
from shards.dataset.label_types import Scalar, convert, doubts, from_cell, infer_field, is_identity
from shards.dataset.manifest import LabelField
from shards.sources.files.listing import first_few


@dataclass(frozen=True)
class LabelTable:
    """A label file: ``rows[i]`` describes the image ``names[i]``; ``columns`` are in file order, without the names."""

    file: str
    names: list[str]
    columns: list[str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class JoinedLabels:
    """Labels in the order of the images, None where an image has none; ``notes`` says what did not match."""

    fields: dict[str, LabelField]
    columns: dict[str, list[Scalar]]
    identity_field: str | None
    notes: list[str]


def read_label_file(path: Path, key: str | None) -> LabelTable:
    """Reads a CSV with a header, or JSONL with one object a line.

    Args:
        path: The file: ``.jsonl`` or ``.ndjson`` is JSONL, ``.tsv`` a CSV with tabs, anything else a CSV.
        key: Column that names the image; None for the first.

    Raises:
        UserError: Another format, ragged rows, or no such column.
    """
    try:
        content = persistently(path, path.read_bytes)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fix its permissions.") from None
    return parse_label_text(str(path), content, key)


def parse_label_text(path: str, content: bytes, key: str | None) -> LabelTable:
    """As ``read_label_file``, from the content of the file ``path``."""
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save the label file as UTF-8.") from None
    rows = _read_jsonl(path, text) if path.lower().endswith((".jsonl", ".ndjson")) else _read_csv(path, text)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        raise UserError(f"{path} holds no rows; give a CSV with a header line, or JSONL.")
    key = key or columns[0]
    if key not in columns:
        raise UserError(f"{path} has no column '{key}' to find images by; it has {', '.join(columns)}.")
    names = ["" if row.get(key) is None else str(row[key]) for row in rows]
    return LabelTable(PurePosixPath(path).name, names, [column for column in columns if column != key], rows)


def join_labels(table: LabelTable, files: Sequence[str]) -> JoinedLabels:
    """Finds the image of each row and the type of each column.

    Args:
        table: The label file.
        files: Relative paths of the images, with ``/``.

    Raises:
        UserError: No row matches, a row matches several images, or two rows match one.
    """
    positions, unmatched = _match(table, files)
    if not positions:
        raise UserError(
            f"no row of {table.file} names an image (first: '{(table.names or [''])[0]}', an image: '{files[0]}'); "
            "pass --label_key COLUMN."
        )
    notes = []
    if unmatched:
        notes.append(f"{len(unmatched)} rows of {table.file} match no image: {first_few(unmatched)}")
    without = [file for position, file in enumerate(files) if position not in positions]
    if without:
        notes.append(f"{len(without)} images have no row in {table.file}: {first_few(without)}")
    fields, columns, identity_field = {}, {}, None
    for column in table.columns:
        values = [table.rows[positions[i]].get(column) if i in positions else None for i in range(len(files))]
        if any(isinstance(value, list | dict) for value in values):
            notes.append(f"Column '{column}' of {table.file} holds lists or objects and was left out.")
            continue
        field = infer_field(column, values, f"column of {table.file}")
        if field is None:
            notes.append(f"Column '{column}' of {table.file} is free text (all values differ) and was left out.")
            continue
        notes += doubts(column, values, field.kind)
        fields[column], columns[column] = field, convert(values, field.kind)
        if identity_field is None and is_identity(column):
            identity_field = column
    return JoinedLabels(fields, columns, identity_field, notes)


def _match(table: LabelTable, files: Sequence[str]) -> tuple[dict[int, int], list[str]]:
    """The row of each matched image by the image's position, and the names that match no image."""
    by_name: dict[str, list[int]] = {}
    for position, file in enumerate(files):
        path = PurePosixPath(file)
        for name in {file, str(path.with_suffix("")), path.name, path.stem}:
            by_name.setdefault(name, []).append(position)
    exact = {file: position for position, file in enumerate(files)}
    row_of_image: dict[int, int] = {}
    unmatched = []
    for row, name in enumerate(table.names):
        normalized = name.strip().replace("\\", "/").removeprefix("./")
        matches = [exact[normalized]] if normalized in exact else by_name.get(normalized, [])
        if len(matches) > 1:
            raise UserError(
                f"'{name}' in {table.file} matches {len(matches)} images, such as {files[matches[0]]} and "
                f"{files[matches[1]]}; name images by relative path."
            )
        if not matches:
            unmatched.append(name)
        elif row_of_image.setdefault(matches[0], row) != row:
            raise UserError(f"{table.file} has two rows for {files[matches[0]]}; keep one.")
    return row_of_image, unmatched


def _read_csv(path: str, text: str) -> list[dict[str, Any]]:
    # Not text.splitlines(), which also splits at characters that a cell may hold, such as U+2028.
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.lower().endswith(".tsv") else ",", strict=True)
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(path, cells)
            elif len(cells) == len(header):
                rows.append(dict(zip(header, map(from_cell, cells), strict=True)))
            else:
                raise UserError(
                    f"{path}: row {len(rows) + 2} has {len(cells)} cells, the header {len(header)}; fix the file."
                )
    except csv.Error as error:
        raise UserError(
            f"{path}: what follows row {len(rows) + 1} is not CSV ({error}); is a quotation mark missing?"
        ) from None
    return rows


def _header(path: str, cells: list[str]) -> list[str]:
    header = [name.strip() for name in cells]
    if len(set(header)) < len(header) or "" in header:
        raise UserError(f"{path}: the first line must name every column, each once; it is {','.join(cells)}")
    return header


def _read_jsonl(path: str, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            json.dumps(row, ensure_ascii=False).encode()  # "\\ud800" alone is no character.
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object; give one object a line.")
        rows.append(row)
    return rows
