"""Images and labels of a stream, kept on the disk so that they can be read in any order.

Not the Arrow cache of ``datasets``: when a stream breaks off, ``Dataset.from_generator`` deletes the rows it has and
asks for all of them again. A spool keeps every row, also after a kill. And reading it needs neither ``datasets`` nor
pyarrow, which would cost each packing process seconds and 120 MB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from shards.base.files import only_one, write_bytes, writing_to
from shards.base.operating_system import sync_descriptor
from shards.dataset.label_types import Scalar

_IMAGES, _ROWS, _COMPLETE, _LOCK = "images.bin", "rows.jsonl", "complete", "lock"
_SYNC_EVERY = 256


class SpoolWriter:
    """Appends rows: an image's bytes to one file, then a line about it to another. Locked against a second writer.

    Opening a spool cuts off what an interruption left half written.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a spool to resume, or begins one.

        Raises:
            UserError: Another process is filling it, or it cannot be written to.
        """
        self._folder = folder
        with self._writing(), ExitStack() as files:
            busy = f"another process is filling {folder}; wait for it or stop it."
            files.enter_context(only_one(folder / _LOCK, busy))
            self._images = files.enter_context(open(folder / _IMAGES, "ab"))
            self._rows = files.enter_context(open(folder / _ROWS, "ab"))
            self._counts = self._recover()
            self._files = files.pop_all()

    @property
    def is_complete(self) -> bool:
        """Whether the spool holds all rows of the stream."""
        path = self._folder / _COMPLETE
        # Empty in the spools of older versions. Another number: what was complete has been damaged since.
        return path.exists() and path.read_bytes() in (b"", str(self.num_rows).encode())

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return sum(self._counts.values())

    def num_of_split(self, split: str) -> int:
        """Number of rows of a split."""
        return self._counts[split]

    def add(self, split: str, image: bytes, labels: Mapping[str, Scalar]) -> None:
        """Appends a row.

        Raises:
            UserError: The disk refuses.
        """
        line = json.dumps({"split": split, "size": len(image), "labels": dict(labels)})
        with self._writing():
            self._images.write(image)
            self._rows.write(f"{line}\n".encode())
            self._counts[split] += 1
            if self.num_rows % _SYNC_EVERY == 0:
                self._sync()

    def complete(self) -> None:
        """Marks the stream as complete."""
        with self._writing():
            self._sync()
            write_bytes(self._folder / _COMPLETE, str(self.num_rows).encode())

    def close(self) -> None:
        """Writes buffered rows and releases the lock."""
        with self._writing():
            self._files.close()

    def _writing(self) -> AbstractContextManager[None]:
        return writing_to(f"to {self._folder}", "free space, or set FACEGEN_CACHE to another folder")

    def _sync(self) -> None:
        # Images first: a line must never name bytes that are missing.
        for file in (self._images, self._rows):
            file.flush()
            sync_descriptor(file.fileno())

    def _recover(self) -> Counter[str]:
        """Counts the complete rows by split, and cuts off the rest."""
        num_image_bytes = (self._folder / _IMAGES).stat().st_size
        counts: Counter[str] = Counter()
        row_end = image_end = 0
        with open(self._folder / _ROWS, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if row is None or image_end + row["size"] > num_image_bytes:
                    break
                counts[row["split"]] += 1
                row_end, image_end = row_end + len(line), image_end + row["size"]
        self._rows.truncate(row_end)
        self._images.truncate(image_end)
        return counts


class Spool:
    """A complete spool, read by row. Picklable.

    Attributes:
        splits: The split of each row.
        labels: The labels of each row.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the lines; images stay on the disk."""
        self._path = folder / _IMAGES
        with open(folder / _ROWS, "rb") as file:
            rows = [json.loads(line) for line in file]
        self.splits: list[str] = [row["split"] for row in rows]
        self.labels: list[dict[str, Scalar]] = [row["labels"] for row in rows]
        self._sizes = np.array([row["size"] for row in rows], np.int64)
        self._ends = np.cumsum(self._sizes)

    def read(self, row: int) -> bytes:
        """The bytes of a row's image."""
        size = int(self._sizes[row])
        with open(self._path, "rb") as file:
            file.seek(int(self._ends[row]) - size)
            return file.read(size)
