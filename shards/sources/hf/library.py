"""Rows of data sets in every form that the library ``datasets`` knows: on the hub by name, and in local folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from shards.base.errors import UserError
from shards.sources.hf.rows import MISSING_EXTRA, Row, Splits, find_image_column, labels_of


def open_splits(place: str, subset: str | None, revision: str | None, image_column: str | None) -> Splits:
    """Opens a data set as streams.

    Args:
        place: Its name on the hub, or a local folder.
        subset: Configuration of a data set that has several.
        revision: Commit on the hub.
        image_column: Column of the images; None for the first image column.

    Raises:
        UserError: The library is not installed, or there is no such column.
        Exception: Errors of the library.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(MISSING_EXTRA) from None
    path = Path(place)
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        loaded = datasets.load_from_disk(str(path))
        splits = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        streams: Mapping[Any, Any] = {split: part.to_iterable_dataset() for split, part in splits.items()}
    else:
        streams = datasets.load_dataset(place, subset, revision=revision, streaming=True)
    return {str(split): partial(_rows_from, place, stream, image_column) for split, stream in streams.items()}


def _rows_from(place: str, stream: Any, image_column: str | None, start: int) -> Iterator[Row]:
    return rows_of(place, stream.skip(start) if start else stream, image_column)


def rows_of(place: str, stream: Any, image_column: str | None) -> Iterator[Row]:
    """The rows of a stream.

    Args:
        place: For messages.
        stream: An iterable data set.
        image_column: As for ``open_splits``.

    Raises:
        UserError: There is no such column.
    """
    import datasets

    # Formats without a schema, such as CSV, reveal their columns in the first row.
    features = stream.features or dict.fromkeys(next(iter(stream), {}))
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    column = find_image_column(place, features, images, image_column)
    classes = {name: kind.names for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    for row in stream.cast_column(column, datasets.Image(decode=False)):
        labels = labels_of({name: value for name, value in row.items() if name not in images}, classes)
        yield _image_bytes(row[column]), labels


def _image_bytes(value: Mapping[str, Any] | None) -> bytes:
    """The file's content; empty if it is missing, so that packing counts it as bad."""
    if value is None:
        return b""
    if value.get("bytes") is not None:
        return value["bytes"]
    from datasets.utils.file_utils import xopen

    try:
        with xopen(value["path"], "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
