"""A file behind an address, read like a local one: for what wants to seek in it, such as tar and parquet readers."""

from __future__ import annotations

import io
from collections import deque
from typing import Any

from shards.dataset.addresses import RemoteFolder

_NUM_KEPT = 2
"""Parts that stay in memory: whoever reads on may look back across the border of two."""


class RemoteFile(io.RawIOBase):
    """Reads parts of a file, each with the patience of ``RemoteFolder.persistently``. Not for several threads."""

    def __init__(self, folder: RemoteFolder, name: str, num_bytes: int, ahead_bytes: int = 0) -> None:
        """Reads nothing yet.

        Args:
            folder: Where it is.
            name: Of the file.
            num_bytes: Its size.
            ahead_bytes: Least that a request asks for; 0 asks for what is read and no more.
        """
        self._folder, self._name, self._num_bytes, self._ahead_bytes = folder, name, num_bytes, ahead_bytes
        self._position = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_NUM_KEPT if ahead_bytes else 1)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of every file; asks for nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, but for the end of the file.

        Raises:
            UserError: As ``RemoteFolder.persistently``.
        """
        num_wanted = max(0, min(len(buffer), self._num_bytes - self._position))
        done = 0
        while done < num_wanted:
            start, part = self._part(num_wanted - done)
            piece = memoryview(part)[self._position - start :][: num_wanted - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def _part(self, num_wanted: int) -> tuple[int, bytes]:
        """A part of the file that holds the byte at the position, and where it starts."""
        for start, part in self._kept:
            if start <= self._position < start + len(part):
                return start, part
        start = self._position
        stop = min(start + max(num_wanted, self._ahead_bytes), self._num_bytes)
        part = self._folder.persistently(self._name, lambda: self._folder.read(self._name, start, stop))
        self._kept.append((start, part))
        return start, part
