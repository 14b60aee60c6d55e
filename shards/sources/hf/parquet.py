"""Rows of parquet files behind an address, such as ``s3://bucket/faces`` or ``hf://datasets/USER/NAME/data``.

Read by pyarrow alone, part by part and with patience: of a file of gigabytes a few megabytes are in memory, a request
that fails is repeated, and rows that were read before are skipped by the row group.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from shards.base.errors import UserError
from shards.dataset.addresses import CHUNK_BYTES, RemoteFolder
from shards.dataset.remote_file import RemoteFile
from shards.sources.hf.rows import MISSING_EXTRA, Row, Splits, find_image_column, labels_of

_ROWS_AT_A_TIME = 16
_SUFFIX = ".parquet"
_SHARDED = re.compile(rf"data/(\w+(?:\.\w+)*)-\d{{5}}-of-\d{{5}}.*{re.escape(_SUFFIX)}", re.ASCII)
"""How ``datasets`` names the files that it pushes to the hub."""
_SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def open_splits(address: str, image_column: str | None) -> Splits:
    """Opens a folder of parquet files, which is searched recursively, or one file.

    Args:
        address: Of the folder or the file.
        image_column: Column of the images; None for the first image column.

    Raises:
        UserError: pyarrow is not installed, or there are no such files.
    """
    try:
        import pyarrow.parquet as _  # noqa: F401
    except ImportError:
        raise UserError(MISSING_EXTRA) from None
    files, sizes = _find(address)
    if not sizes:
        raise UserError(f"no *{_SUFFIX} files at {address}; give the folder that holds them, or one of them.")
    splits: dict[str, list[str]] = {}
    for name in sorted(sizes):
        splits.setdefault(split_of(name), []).append(name)
    order = dict.fromkeys((*_SPLIT_OF_WORD.values(), *splits))  # That of ``datasets``.
    return {
        split: partial(_rows_of_files, files, {name: sizes[name] for name in splits[split]}, image_column)
        for split in order
        if split in splits
    }


def stamps(address: str) -> dict[str, str]:
    """What changes with every file of ``open_splits``, by name.

    Raises:
        UserError: It cannot be listed.
    """
    folder, name = _folder_and_name(address)
    found = RemoteFolder(folder).stamps().items()
    return {file: stamp for file, stamp in found if (file == name if name else _is_shown(file))}


def split_of(name: str) -> str:
    """The split that a file's name or folder says, as ``datasets`` reads it; ``train`` where it says none."""
    sharded = _SHARDED.fullmatch(name)
    words = re.split(r"[^a-z]+", name)
    return sharded[1] if sharded else next((_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD), "train")


def _find(address: str) -> tuple[RemoteFolder, dict[str, int]]:
    folder, name = _folder_and_name(address)
    files = RemoteFolder(folder)
    if not name:
        return files, {file: size for file, size in files.sizes().items() if _is_shown(file)}
    size = files.size(name)
    return files, {} if size is None else {name: size}


def _folder_and_name(address: str) -> tuple[str, str]:
    folder, _, name = address.rstrip("/").rpartition("/")
    return (folder, name) if name.endswith(_SUFFIX) else (address.rstrip("/"), "")


def _is_shown(file: str) -> bool:
    return file.endswith(_SUFFIX) and not any(part.startswith((".", "__")) for part in file.split("/"))


def _rows_of_files(
    files: RemoteFolder, sizes: Mapping[str, int], image_column: str | None, start: int
) -> Iterator[Row]:
    """The rows of several files, one after the other.

    Raises:
        UserError: A file cannot be read, is damaged, or has no such column.
    """
    import pyarrow

    for name, size in sizes.items():
        place = f"{files.address}/{name}"
        try:
            with _open(RemoteFile(files, name, size)) as file:
                num_rows = file.metadata.num_rows
                if start < num_rows:
                    yield from _rows_of_file(place, file, image_column, start)
                start = max(0, start - num_rows)
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{place} is truncated or not a parquet file ({reason}); copy or make it again.") from None


def _open(file: RemoteFile) -> Any:
    from pyarrow import PythonFile, parquet

    # Buffered: otherwise the images of a whole row group are in memory.
    return parquet.ParquetFile(PythonFile(file, mode="r"), buffer_size=CHUNK_BYTES, pre_buffer=False)


def _rows_of_file(place: str, file: Any, image_column: str | None, start: int) -> Iterator[Row]:
    from pyarrow import types

    schema, features = file.schema_arrow, _features(file.schema_arrow)
    images = [column.name for column in schema if _is_image(column, features, image_column)]
    image = find_image_column(place, schema.names, images, image_column)
    content = "bytes" if types.is_struct(schema.field(image).type) else None
    classes = {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    labels = [column.name for column in schema if not types.is_nested(column.type) and column.name not in images]
    groups = []
    for group in range(file.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        if start >= num_rows and not groups:
            start -= num_rows
        else:
            groups.append(group)
    columns = [f"{image}.{content}" if content else image, *labels]
    for batch in file.iter_batches(_ROWS_AT_A_TIME, row_groups=groups, columns=columns, use_threads=False):
        num_skipped = min(start, len(batch))
        start -= num_skipped
        for row in batch.slice(num_skipped).to_pylist():
            value = row.pop(image)
            yield (value.get(content) if content and value else value) or b"", labels_of(row, classes)


def _is_image(column: Any, features: Mapping[str, Mapping[str, Any]], wanted: str | None) -> bool:
    """Whether a column holds images: ``datasets`` says so, it has its form {bytes, path}, or the user says so."""
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    is_known = column.name == wanted or features.get(column.name, {}).get("_type") == "Image"
    return is_known and _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What ``datasets`` wrote about the columns; empty where another program wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    features = features if isinstance(features, dict) else {}
    return {name: kind for name, kind in features.items() if name in schema.names and isinstance(kind, dict)}
