"""``index.safetensors``: its columns, each checked against the manifest when it is first read."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from shards.base.errors import DamagedFile
from shards.base.plain_files import check_plain
from shards.dataset.manifest import Manifest, column_dtypes

_HEADER_BYTES = 2**20
_KEY_BYTES = 2**10
"""Far above what a key takes."""


def column_sha256(column: np.ndarray) -> str:
    """Checksum of a column's values, as the manifest lists it."""
    return hashlib.sha256(np.ascontiguousarray(column).view(np.uint8).data).hexdigest()


def max_index_bytes(manifest: Manifest) -> int:
    """More bytes than the index of a manifest can have."""
    sample_bytes = sum(np.dtype(dtype).itemsize for dtype in column_dtypes(manifest, has_checksums=True).values())
    return _HEADER_BYTES + sum(shard.num_samples for shard in manifest.shards) * (sample_bytes + _KEY_BYTES)


class IndexFile:
    """The columns of an index, in the order of the manifest's shards. They are numpy arrays that nobody may change."""

    def __init__(self, path: Path, manifest: Manifest, advice: str) -> None:
        """Reads nothing.

        Args:
            path: The file.
            manifest: What it has to fit.
            advice: What the user can do about a damaged one, as the end of the sentence.
        """
        self._path = path
        self._manifest = manifest
        self._advice = advice
        self._num_samples = sum(shard.num_samples for shard in manifest.shards)
        self._columns: dict[str, np.ndarray] = {}

    def has_checksums(self) -> bool:
        """Whether there is a checksum of each image; data sets of old releases have none.

        Raises:
            DamagedFile: The file cannot be read.
        """
        if self._manifest.index:
            return "crc32" in self._manifest.index
        with self._open() as file:
            return "crc32" in file.keys()  # noqa: SIM118 - not a mapping

    def column(self, name: str) -> np.ndarray:
        """A whole column (N,); ``key_bytes`` is as long as all keys together.

        Raises:
            DamagedFile: The file cannot be read, or the column is not the one that was written.
        """
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    def check(self) -> None:
        """Reads every column once, and keeps none.

        Raises:
            DamagedFile: As ``column``.
        """
        for name in column_dtypes(self._manifest, self.has_checksums()):
            self._read(name)
        _ = self.keys

    @cached_property
    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """All keys in UTF-8, end to end, as uint8, and where each ends, as int64 (N,).

        Raises:
            DamagedFile: As ``column``.
        """
        text, ends = self.column("key_bytes"), self.column("key_end")
        starts = ends[:-1][ends[:-1] < len(text)]
        is_inside = bool(((text[starts] & 0xC0) == 0x80).any())  # Within the bytes of one character.
        if (ends[-1] if len(ends) else 0) != len(text) or is_inside or not _is_utf8(text):
            raise self._damaged("its keys are not whole texts")
        return text, ends

    def _read(self, name: str) -> np.ndarray:
        dtype = column_dtypes(self._manifest, has_checksums=True)[name]
        with self._open() as file:
            try:
                column = file.get_tensor(name)
            except (SafetensorError, TypeError, ValueError) as error:
                raise self._damaged(f"its column {name} cannot be read ({error})") from None
        if column.dtype != dtype or column.ndim != 1:
            raise self._damaged(f"its column {name} is {column.dtype} with {column.ndim} dims, not {np.dtype(dtype)}")
        if name != "key_bytes" and len(column) != self._num_samples:
            raise self._damaged(f"its column {name} has {len(column):,} rows for {self._num_samples:,} samples")
        expected = self._manifest.index.get(name)
        if expected is not None and column_sha256(column) != expected:
            raise self._damaged(f"its column {name} is not the one that was written: the checksum differs")
        problem = self._out_of_range(name, column)
        if problem:
            raise self._damaged(f"its column {name} {problem}")
        return column

    def _out_of_range(self, name: str, column: np.ndarray) -> str | None:
        """What is wrong with the values of a column, as the end of a sentence; None if nothing is found."""
        if name in ("offset", "size"):
            start = 0
            for shard in self._manifest.shards:
                values = column[start : start + shard.num_samples]
                start += shard.num_samples
                if len(values) and not 0 <= values.min() <= values.max() < shard.num_bytes:
                    return f"leads outside the shard {shard.name}"
        if name == "key_end" and ((column[:1] < 0).any() or (np.diff(column) < 0).any()):
            return "does not rise"
        label = self._manifest.fields.get(name.removeprefix("label."))
        if label is None or label.kind == "float" or not len(column):
            return None
        highest = 1 if label.kind == "bool" else len(label.classes) - 1
        if column.min() < -1 or column.max() > highest:
            return f"holds {column.min()} to {column.max()}, and should hold -1 to {highest}"
        return None

    def _open(self) -> Any:
        try:
            check_plain(self._path)
            return safe_open(self._path, framework="np")
        except (OSError, SafetensorError) as error:
            raise self._damaged(f"it cannot be read ({error})") from None

    def _damaged(self, finding: str) -> DamagedFile:
        return DamagedFile(f"{self._path} does not fit its data set: {finding}; {self._advice}.")


def _is_utf8(text: np.ndarray) -> bool:
    try:
        text.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True
