"""Safetensors files whose tensors are read piece by piece or mapped into memory: they may be larger than it.

The library's own readers copy whole tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from shards.base.operating_system import FILE_POSITION, read_at, read_into, write_at
from shards.base.plain_files import check_plain

MAX_HEADER_BYTES = 2**20
LENGTH_BYTES = 8
"""At the start of a file: how long its header is."""
_PIECE_BYTES = 2**22


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file.

    Attributes:
        dtype: Of its values; None for others than whole and floating-point numbers.
        shape: As the file says.
        start: Its first byte in the file.
        num_bytes: How many it takes.
    """

    dtype: np.dtype | None
    shape: tuple[int, ...]
    start: int
    num_bytes: int


class TensorFile:
    """An open file; it stays what it was opened as, whatever takes its name later.

    Attributes:
        tensors: By name.
    """

    def __init__(self, path: Path, writable: bool = False) -> None:
        """Opens a file.

        Raises:
            OSError: It cannot be read, or is a link, a pipe, a device or a folder.
            SafetensorError: It is not a safetensors file.
        """
        check_plain(path)
        with safe_open(path, framework="np"):  # Checks the header against the file.
            self._file = open(path, "r+b" if writable else "rb", buffering=0)  # noqa: SIM115 - closes with this object
        num_bytes = int.from_bytes(self._read(0, LENGTH_BYTES), "little")
        self.tensors = parse_header(self._read(LENGTH_BYTES, num_bytes))

    def pieces(self, tensor: Tensor) -> Iterator[np.ndarray]:
        """The values of a tensor, a few megabytes at a time; each piece is overwritten by the next.

        Raises:
            OSError: The file cannot be read, or became shorter.
        """
        assert tensor.dtype is not None
        buffer = np.empty(min(tensor.num_bytes, _PIECE_BYTES) // tensor.dtype.itemsize, tensor.dtype)
        for start in range(0, tensor.num_bytes, _PIECE_BYTES):
            piece = buffer[: min(tensor.num_bytes - start, _PIECE_BYTES) // tensor.dtype.itemsize]
            if read_into(self._file.fileno(), [piece.view(np.uint8).data], tensor.start + start) != piece.nbytes:
                raise OSError("it is truncated")
            yield piece

    def mapped(self, tensor: Tensor) -> np.ndarray:
        """The values in the file itself, read-only: the system reads what is used, and processes share it.

        Raises:
            OSError: The file cannot be mapped.
            ValueError: It became shorter.
        """
        assert tensor.dtype is not None
        if not tensor.num_bytes:
            return np.empty(tensor.shape, tensor.dtype)
        with FILE_POSITION:
            return np.memmap(self._file, tensor.dtype, "r", tensor.start, tensor.shape).view(np.ndarray)

    def write(self, start: int, data: bytes) -> None:
        """Writes bytes at a place of a file that was opened as writable.

        Raises:
            OSError: The disk is full, read-only or broken.
        """
        view = memoryview(data)
        while view:
            written = write_at(self._file.fileno(), view, start)
            view, start = view[written:], start + written

    def _read(self, start: int, num_bytes: int) -> bytes:
        return read_at(self._file.fileno(), num_bytes, start)


def parse_header(header: bytes) -> dict[str, Tensor]:
    """The tensors that the header of a file names.

    Raises:
        ValueError: It is not a header.
    """
    try:
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        return {name: _tensor(entry, LENGTH_BYTES + len(header)) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it has no header ({error!r})") from None


def _tensor(entry: dict[str, Any], data_start: int) -> Tensor:
    kind = re.fullmatch(r"I(8|16|32|64)|U(8|16|32|64)|F(16|32|64)", entry["dtype"])
    dtype = np.dtype(f"<{kind[0][0].lower()}{int(kind[0][1:]) // 8}") if kind else None
    start, stop = entry["data_offsets"]
    return Tensor(dtype, tuple(entry["shape"]), data_start + start, stop - start)
