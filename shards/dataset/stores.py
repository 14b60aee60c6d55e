"""Where a data set is written: a folder, or a place behind an address such as ``s3://bucket/faces``.

In both a file appears whole or not at all.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from shards.base.errors import UserError
from shards.base.files import only_one, publish, write_bytes, writing_to
from shards.base.hub_address import HUB
from shards.base.operating_system import DELETES_OPEN_FILES
from shards.dataset.addresses import RemoteFolder, as_address
from shards.dataset.manifest import DATASET_FILE, PACKING_DIR

_LOCK = f"{PACKING_DIR}/lock"
_TEMPORARY = ".tmp"


class Store(Protocol):
    """Files by name, with ``/``; picklable. Its ``str`` is what the user gave.

    Every method may raise OSError or UserError: it is full, forbidden or broken.
    """

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is a file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Writes or replaces a file; it is durable when this returns."""
        ...

    def settle(self, name: str, content: bytes) -> bytes:
        """Writes a file unless there is one, and returns what is there: of several writers all get the same."""
        ...

    def sizes(self) -> dict[str, int]:
        """The files there are, with their bytes."""
        ...

    def making(self, name: str) -> AbstractContextManager[Path]:
        """A context manager that gives a path to write a file of any size to; it may be left without one."""
        ...

    def hold(self, busy: str) -> ExitStack:
        """Keeps a second writer out until closed, where the place can; prepares it for writing.

        Raises:
            UserError: Another one holds it (``busy`` is the sentence), or it holds other files.
        """
        ...

    def clear(self, held: ExitStack) -> None:
        """Removes the working files, among them the lock that ``hold`` returned."""
        ...


class FolderStore:
    """A folder of this machine, or one that machines share."""

    def __init__(self, root: Path) -> None:
        """Touches nothing yet."""
        self.root = root

    def read(self, name: str) -> bytes | None:
        """As ``Store.read``."""
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def has(self, name: str) -> bool:
        """As ``Store.has``."""
        return (self.root / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        """As ``Store.write``."""
        write_bytes(self.root / name, content)

    def settle(self, name: str, content: bytes) -> bytes:
        """As ``Store.settle``; whoever holds the folder is the only writer."""
        there = self.read(name)
        if there is None:
            self.write(name, content)
        return content if there is None else there

    def sizes(self) -> dict[str, int]:
        """As ``Store.sizes``; of this folder and of the working files of a packing."""
        folders = {"": self.root, f"{PACKING_DIR}/": self.root / PACKING_DIR}
        sizes = {}
        for prefix, folder in folders.items():
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                sizes |= {prefix + entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        return sizes

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """As ``Store.making``.

        The temporary name is the attempt's own: a machine that was given up may still be writing.
        """
        work = self.root / PACKING_DIR
        if not work.is_dir():
            raise UserError(f"{platform.node()} does not see {work}: all machines that write need the same folder.")
        temporary = work / f"{name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}"
        try:
            yield temporary
            if temporary.exists():
                publish(temporary, self.root / name)
        finally:
            temporary.unlink(missing_ok=True)

    def hold(self, busy: str) -> ExitStack:
        """As ``Store.hold``; removes what an interruption left half written."""
        root, work = self.root, self.root / PACKING_DIR
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give a folder for the data set.")
        if root.is_dir() and not work.is_dir() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and holds no unfinished packing; give a new or empty folder.")
        with writing_to(f"to {root}", "give another output folder"):
            work.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(only_one(root / _LOCK, busy))
            with writing_to(f"to {root}", "fix this, then rerun the command"):
                for leftover in work.glob(f"*{_TEMPORARY}"):
                    leftover.unlink()
            return held.pop_all()

    def clear(self, held: ExitStack) -> None:
        """As ``Store.clear``."""
        if not DELETES_OPEN_FILES:  # Whoever takes the lock now finds a complete data set.
            held.close()
        shutil.rmtree(self.root / PACKING_DIR)

    def __str__(self) -> str:
        return str(self.root)


class ObjectStore:
    """A place behind an address. Writers with the same plan may work at once: they write the same bytes."""

    def __init__(self, address: str) -> None:
        """Connects to nothing yet.

        Raises:
            UserError: As ``RemoteFolder``.
        """
        if address.startswith(HUB):
            raise UserError(f"{address} is written in one commit: python -m shards.push_data DATA USER/NAME")
        if address.startswith(("http://", "https://")):
            raise UserError(f"{address} cannot be written to; give a folder, or an address such as s3://bucket/faces.")
        self._files = RemoteFolder(address.rstrip("/"))

    def read(self, name: str) -> bytes | None:
        """As ``Store.read``."""
        return self._files.content(name)

    def has(self, name: str) -> bool:
        """As ``Store.has``."""
        return self._files.has(name)

    def write(self, name: str, content: bytes) -> None:
        """As ``Store.write``."""
        self._files.write(name, content)

    def settle(self, name: str, content: bytes) -> bytes:
        """As ``Store.settle``, by a conditional write."""
        return self._files.settle(name, content)

    def sizes(self) -> dict[str, int]:
        """As ``Store.sizes``."""
        return self._files.sizes()

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """As ``Store.making``, by way of a file of this machine and an upload in parts."""
        with tempfile.TemporaryDirectory(prefix="facegen-shard-") as folder:
            path = Path(folder) / name
            yield path
            if path.exists():
                self._files.put(path, name)

    def hold(self, busy: str) -> ExitStack:
        """As ``Store.hold``; the plan, written once, keeps other packings out."""
        names = self.sizes()
        if names and DATASET_FILE not in names and not any(name.startswith(f"{PACKING_DIR}/") for name in names):
            raise UserError(f"{self} is not empty and holds no unfinished packing; give a new or empty place.")
        return ExitStack()

    def clear(self, held: ExitStack) -> None:
        """As ``Store.clear``."""
        self._files.remove([name for name in self.sizes() if name.startswith(f"{PACKING_DIR}/")])

    def __str__(self) -> str:
        return self._files.address


def open_store(place: str | Path) -> Store:
    """The store at a folder or an address; a path has lost one of an address's two slashes.

    Raises:
        UserError: An address that cannot be opened.
    """
    address = as_address(place)
    return FolderStore(Path(place)) if address is None else ObjectStore(address)
