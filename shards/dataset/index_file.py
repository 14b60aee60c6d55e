"""``index.safetensors``: its columns, checked against the manifest when first used, and mapped into memory."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from shards.base.errors import DamagedFile
from shards.dataset.manifest import Manifest, Shard, column_dtypes
from shards.dataset.tensor_file import MAX_HEADER_BYTES, Tensor, TensorFile

MAX_KEY_BYTES = 2**10
"""Far above what a key takes."""
_KEYS_AT_ONCE = 2**20


def column_sha256(column: np.ndarray) -> str:
    """Checksum of a column's values, as the manifest lists it."""
    return hashlib.sha256(np.ascontiguousarray(column).view(np.uint8).data).hexdigest()


def max_index_bytes(manifest: Manifest) -> int:
    """More bytes than the index of a manifest can have."""
    sample_bytes = sum(np.dtype(dtype).itemsize for dtype in column_dtypes(manifest, has_checksums=True).values())
    return MAX_HEADER_BYTES + sum(shard.num_samples for shard in manifest.shards) * (sample_bytes + MAX_KEY_BYTES)


class IndexFile:
    """The columns of an index, in the order of the manifest's shards, as read-only arrays in the file itself.

    Nothing of it stays in memory: a check reads a column piece by piece.
    """

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
        self._shard_ends = np.cumsum([shard.num_samples for shard in manifest.shards], dtype=np.int64)
        self._num_samples = int(self._shard_ends[-1]) if len(self._shard_ends) else 0
        self._columns: dict[str, np.ndarray] = {}

    def has_checksums(self) -> bool:
        """Whether there is a checksum of each image; data sets of old releases have none.

        Raises:
            DamagedFile: The file cannot be read.
        """
        return "crc32" in (self._manifest.index or self._file.tensors)

    def column(self, name: str) -> np.ndarray:
        """A whole column (N,); ``key_bytes`` is as long as all keys together.

        Raises:
            DamagedFile: The file cannot be read, or the column is not the one that was written.
        """
        if name not in self._columns:
            self._check(name)
            self._columns[name] = self._mapped(name)
        return self._columns[name]

    def place(self, name: str) -> np.ndarray:
        """``offset``, ``size`` or ``crc32``, as ``column``; defined in the rows of shards that are open."""
        return self.column(name)

    def open_rows(self, shard: Shard, descriptor: int) -> None:
        """Makes ``place`` defined in the rows of a shard, whose file is open."""

    def check(self) -> None:
        """Reads every column once.

        Raises:
            DamagedFile: As ``column``.
        """
        for name in column_dtypes(self._manifest, self.has_checksums()):
            self.column(name)
        self._check_keys()

    def key(self, row: int) -> str:
        """The key of one row.

        Raises:
            DamagedFile: As ``column``.
        """
        text, ends = self.keys
        return text[ends[row - 1] if row else 0 : ends[row]].tobytes().decode()

    @cached_property
    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """All keys in UTF-8, end to end, as uint8, and where each ends, as int64 (N,).

        Raises:
            DamagedFile: As ``column``.
        """
        self._check_keys()
        return self.column("key_bytes"), self.column("key_end")

    def _check_keys(self) -> None:
        text, ends = self.column("key_bytes"), self.column("key_end")
        is_whole = (ends[-1] if len(ends) else 0) == len(text)
        for start in range(0, len(ends) - 1 if is_whole else 0, _KEYS_AT_ONCE):
            starts = ends[start : min(start + _KEYS_AT_ONCE, len(ends) - 1)]
            # Not within the bytes of one character.
            is_whole = is_whole and not ((text[starts[starts < len(text)]] & 0xC0) == 0x80).any()
        if not (is_whole and _is_utf8(self._pieces("key_bytes"))):
            raise self._damaged("its keys are not whole texts")

    def _check(self, name: str) -> None:
        """Reads a column once, piece by piece."""
        digest, problem, row = hashlib.sha256(), None, 0
        find = _Faults(name, self._manifest, self._shard_ends)
        for piece in self._pieces(name):
            digest.update(piece.view(np.uint8).data)
            problem = problem or find.in_piece(piece, row)
            row += len(piece)
        expected = self._manifest.index.get(name)
        if expected is not None and digest.hexdigest() != expected:
            raise self._damaged(f"its column {name} is not the one that was written: the checksum differs")
        problem = problem or find.in_all()
        if problem:
            raise self._damaged(f"its column {name} {problem}")

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        try:
            yield from self._file.pieces(self._tensor(name))
        except OSError as error:
            raise self._damaged(f"its column {name} cannot be read ({error.strerror or error})") from None

    def _mapped(self, name: str) -> np.ndarray:
        try:
            return self._file.mapped(self._tensor(name))
        except (OSError, ValueError) as error:
            raise self._damaged(f"its column {name} cannot be read ({error})") from None

    def _tensor(self, name: str) -> Tensor:
        """Where a column lies, with the type and the length that it must have."""
        dtype = np.dtype(column_dtypes(self._manifest, has_checksums=True)[name])
        tensor = self._file.tensors.get(name)
        if tensor is None or tensor.dtype is None:
            raise self._damaged(f"its column {name} cannot be read ({'not of numbers' if tensor else 'there is none'})")
        if tensor.dtype != dtype or len(tensor.shape) != 1:
            raise self._damaged(f"its column {name} is {tensor.dtype} with {len(tensor.shape)} dims, not {dtype}")
        if name != "key_bytes" and tensor.shape[0] != self._num_samples:
            raise self._damaged(f"its column {name} has {tensor.shape[0]:,} rows for {self._num_samples:,} samples")
        return tensor

    @cached_property
    def _file(self) -> TensorFile:
        try:
            return TensorFile(self._path)
        except (OSError, SafetensorError, ValueError) as error:
            raise self._damaged(f"it cannot be read ({error})") from None

    def _damaged(self, finding: str) -> DamagedFile:
        return DamagedFile(f"{self._path} does not fit its data set: {finding}; {self._advice}.")


class _Faults:
    """Finds values that a column cannot have, piece by piece; findings are the end of a sentence."""

    def __init__(self, name: str, manifest: Manifest, shard_ends: np.ndarray) -> None:
        self._name = name
        self._shards = manifest.shards
        self._shard_ends = shard_ends
        self._label = manifest.fields[name.removeprefix("label.")] if name.startswith("label.") else None
        self._last = 0
        self._extremes: list[int] = []

    def in_piece(self, values: np.ndarray, row: int) -> str | None:
        """What is wrong with the values from a row on, None if nothing is found."""
        if self._name in ("offset", "size"):
            return self._outside(values, row)
        if self._name == "key_end":
            before, self._last = self._last, int(values[-1])
            return "does not rise" if (values[:1] < before).any() or (np.diff(values) < 0).any() else None
        if self._label and self._label.kind != "float":
            found = [*self._extremes, int(values.min()), int(values.max())]
            self._extremes = [min(found), max(found)]
        return None

    def in_all(self) -> str | None:
        """What is wrong with the whole column, None if nothing is found."""
        if self._label is None or not self._extremes:
            return None
        low, high = self._extremes
        highest = 1 if self._label.kind == "bool" else len(self._label.classes) - 1
        return None if -1 <= low <= high <= highest else f"holds {low} to {high}, and should hold -1 to {highest}"

    def _outside(self, values: np.ndarray, row: int) -> str | None:
        stop = row + len(values)
        first = int(np.searchsorted(self._shard_ends, row, side="right"))
        while row < stop:
            shard, end = self._shards[first], min(stop, int(self._shard_ends[first]))
            own = values[: end - row]
            if len(own) and not 0 <= own.min() <= own.max() < shard.num_bytes:
                return f"leads outside the shard {shard.name}"
            values, row, first = values[end - row :], end, first + 1
        return None


def _is_utf8(pieces: Iterator[np.ndarray]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            decoder.decode(piece.tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
