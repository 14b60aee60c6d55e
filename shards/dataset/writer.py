"""Writes the two files that make a folder of shards a data set; ``shards.dataset.manifest`` describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from shards.base.files import json_bytes, write_bytes
from shards.base.names import Names
from shards.dataset.index_file import column_sha256
from shards.dataset.manifest import DATASET_FILE, DATASET_FORMAT, INDEX_FILE, Manifest, column_dtypes


@dataclass(frozen=True)
class Columns:
    """The rows of an index before they are written, in the order of the manifest's shards."""

    offset: np.ndarray
    """int64, where the image's bytes start in its shard."""
    size: np.ndarray
    """int32, how many bytes the image has."""
    keys: Sequence[str]
    labels: Mapping[str, np.ndarray]
    crc32: np.ndarray | None = None
    """uint32, zlib's checksum of the image's bytes; without it, damage shows only where decoding fails."""


def write_dataset(root: Path, manifest: Manifest, columns: Columns) -> None:
    """Writes the index, then ``dataset.json``: each to a temporary name, fsynced and renamed.

    Raises:
        ValueError: As ``dataset_files``.
    """
    for name, content in dataset_files(manifest, columns):
        write_bytes(root / name, content)


def dataset_files(manifest: Manifest, columns: Columns) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """Name and content of the index and of ``dataset.json``, in the order in which they are to be written.

    Raises:
        ValueError: Columns of different lengths, or labels that the schema does not name.
    """
    num_samples = sum(shard.num_samples for shard in manifest.shards)
    checksums = () if columns.crc32 is None else (columns.crc32,)
    every = (columns.offset, columns.size, columns.keys, *columns.labels.values(), *checksums)
    lengths = {len(column) for column in every}
    if lengths - {num_samples}:
        raise ValueError(f"index columns have lengths {sorted(lengths)}, the shards {num_samples} samples")
    if set(columns.labels) != set(manifest.fields):
        raise ValueError(f"index labels {sorted(columns.labels)} are not the schema's {sorted(manifest.fields)}")
    keys = columns.keys if isinstance(columns.keys, Names) else Names(columns.keys)
    values = {
        "offset": columns.offset,
        "size": columns.size,
        "key_bytes": np.frombuffer(keys.text, np.uint8),
        "key_end": keys.ends,
        "crc32": columns.crc32,
        **{f"label.{name}": column for name, column in columns.labels.items()},
    }
    dtypes = column_dtypes(manifest, has_checksums=columns.crc32 is not None)
    tensors = {name: np.ascontiguousarray(values[name], dtype) for name, dtype in dtypes.items()}
    manifest = replace(manifest, index={name: column_sha256(tensor) for name, tensor in tensors.items()})
    content = DATASET_FORMAT.stamp({"fingerprint": manifest.fingerprint, **asdict(manifest)})
    return (INDEX_FILE, save(tensors)), (DATASET_FILE, json_bytes(content, indent=1))
