"""Data sets of any size that take little disk: shards without content, whose black images read and decode like others.

Their index is real: where each image lies, its checksum, and one label. Keys, which only messages and reports read, are
empty, and a hole in the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shards.base.files import json_bytes
from shards.dataset.manifest import DATASET_FILE, DATASET_FORMAT, INDEX_FILE, ImageFormat, LabelField, Manifest, Shard

SAMPLES_PER_SHARD = 10_000
_SIDE = 32
_IMAGE_BYTES = _SIDE * _SIDE
_SAMPLE_BYTES = 512 + _IMAGE_BYTES
"""A block for the header and the pixels of a gray image."""
_SHARD_BYTES = SAMPLES_PER_SHARD * _SAMPLE_BYTES + 1024


def make_dataset(root: Path, num_samples: int) -> int:
    """Writes a data set with one split, ``train``.

    Args:
        root: A new folder.
        num_samples: A multiple of ``SAMPLES_PER_SHARD``.

    Returns:
        Bytes of the index.
    """
    num_shards = num_samples // SAMPLES_PER_SHARD
    root.mkdir()
    for number in range(num_shards):
        with open(root / _name(number), "wb") as file:
            file.truncate(_SHARD_BYTES)
    with open(root / _name(0), "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sums = _write_index(root / INDEX_FILE, num_samples, num_shards)
    manifest = Manifest(
        name="black",
        image=ImageFormat(_SIDE, _SIDE, 1, "raw"),
        fields={"smile": LabelField("bool")},
        shards=tuple(
            Shard(_name(number), "train", SAMPLES_PER_SHARD, _SHARD_BYTES, sha256) for number in range(num_shards)
        ),
        split={},
        provenance={},
        index=sums,
    )
    content = DATASET_FORMAT.stamp({"fingerprint": manifest.fingerprint, **asdict(manifest)})
    (root / DATASET_FILE).write_bytes(json_bytes(content, indent=1))
    return os.path.getsize(root / INDEX_FILE)


def _write_index(path: Path, num_samples: int, num_shards: int) -> dict[str, str]:
    """Writes columns that are the same for every shard; returns the checksum of each."""
    shard = {
        "offset": 512 + np.arange(SAMPLES_PER_SHARD, dtype=np.int64) * _SAMPLE_BYTES,
        "size": np.full(SAMPLES_PER_SHARD, _IMAGE_BYTES, np.int32),
        "crc32": np.full(SAMPLES_PER_SHARD, zlib.crc32(bytes(_IMAGE_BYTES)), np.uint32),
        "label.smile": np.ones(SAMPLES_PER_SHARD, np.int8),
    }
    holes = {"key_end": np.zeros(SAMPLES_PER_SHARD, np.int64)}
    header: dict[str, Any] = {"key_bytes": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    start = 0
    for name, column in (shard | holes).items():
        stop = start + num_samples * column.itemsize
        kind = f"{column.dtype.kind.upper()}{8 * column.itemsize}"
        header[name] = {"dtype": kind, "shape": [num_samples], "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    sums = {"key_bytes": hashlib.sha256().hexdigest()}
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, column in (shard | holes).items():
            digest = hashlib.sha256()
            for data in _repeated(column.tobytes(), num_shards):
                digest.update(data)
                if name in shard:
                    file.write(data)
            sums[name] = digest.hexdigest()
        file.truncate(file.tell() + num_samples * 8)
    return sums


def _repeated(data: bytes, times: int) -> Iterator[bytes]:
    yield from [data * 100] * (times // 100)
    yield data * (times % 100)


def _name(number: int) -> str:
    return f"train-{number:06d}.tar"
