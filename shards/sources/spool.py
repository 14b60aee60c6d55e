"""Images and labels of a stream, kept on the disk so that they can be read in any order.

Not the Arrow cache of ``datasets``: when a stream breaks off, ``Dataset.from_generator`` deletes the rows it has and
asks for all of them again. A spool keeps every row, also after a kill. And reading it needs neither ``datasets`` nor
pyarrow, which would cost each packing process seconds and 120 MB.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shards.base.errors import UserError
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / _LOCK, "w")  # noqa: SIM115 - held until close()
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is filling {folder}; wait for it or stop it.") from None
        except OSError as error:
            raise UserError(
                f"cannot write to {folder} ({error.strerror}); set FACEGEN_CACHE to another folder."
            ) from None
        self._images = open(folder / _IMAGES, "ab")  # noqa: SIM115
        self._rows = open(folder / _ROWS, "ab")  # noqa: SIM115
        self._counts = self._recover()

    @property
    def is_complete(self) -> bool:
        """Whether the spool holds all rows of the stream."""
        return (self._folder / _COMPLETE).exists()

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return sum(self._counts.values())

    def num_of_split(self, split: str) -> int:
        """Number of rows of a split."""
        return self._counts[split]

    def add(self, split: str, image: bytes, labels: Mapping[str, Scalar]) -> None:
        """Appends a row."""
        line = json.dumps({"split": split, "size": len(image), "labels": dict(labels)})
        self._images.write(image)
        self._rows.write(f"{line}\n".encode())
        self._counts[split] += 1
        if self.num_rows % _SYNC_EVERY == 0:
            self._sync()

    def complete(self) -> None:
        """Marks the stream as complete."""
        self._sync()
        (self._folder / _COMPLETE).touch()

    def close(self) -> None:
        """Writes buffered rows and releases the lock."""
        self._images.close()
        self._rows.close()
        self._lock.close()

    def _sync(self) -> None:
        # Images first: a line must never name bytes that are missing.
        for file in (self._images, self._rows):
            file.flush()
            os.fsync(file.fileno())

    def _recover(self) -> Counter[str]:
        """Counts the complete rows by split, and cuts off the rest."""
        num_image_bytes = (self._folder / _IMAGES).stat().st_size
        counts: Counter[str] = Counter()
        row_end = image_end = 0
        with open(self._folder / _ROWS, "rb") as file:
            for line in file:
                row = json.loads(line) if line.endswith(b"\n") else None
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
