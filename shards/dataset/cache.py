"""The folder that keeps shards from elsewhere on this machine: bounded, and shared by all processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from shards.base import files
from shards.base.operating_system import allocated_bytes, delete_unless_open, lock_file
from shards.base.places import CACHE_VARIABLE, cache_directory, positive_number

SIZE_VARIABLE = "FACEGEN_SHARD_CACHE_GB"
DEFAULT_CACHE_GB = 20.0
_OF_SHARDS = (".tar", ".part")


def cache_bytes() -> int:
    """How much disk space the shards of all data sets may take together.

    Raises:
        UserError: The variable ``FACEGEN_SHARD_CACHE_GB`` is not a positive number.
    """
    return int(positive_number(SIZE_VARIABLE, DEFAULT_CACHE_GB, "gigabytes") * 1e9)


def shards_folder() -> Path:
    """The folder that holds one folder for each data set."""
    return cache_directory() / "shards"


def make_room(folder: Path, allowed_bytes: int, in_use: Path) -> None:
    """Deletes the least recently used files until the others take at most ``allowed_bytes``.

    Shards count, what broken downloads left of them, and the indexes of data sets that nobody opened for long.

    Args:
        folder: Holds one folder for each data set.
        allowed_bytes: How much may stay.
        in_use: The folder of the data set that needs room; its own index and manifest stay and do not count.
    """
    paths = [path for path in folder.glob("*/*") if path.suffix != ".lock"]
    paths = [path for path in paths if path.parent != in_use or path.suffix in _OF_SHARDS]
    files = [(status, path) for path in paths if (status := _status(path))]
    total = sum(_disk_bytes(status, path) for status, path in files)
    for status, path in sorted(files, key=lambda item: item[0].st_mtime):
        if total <= allowed_bytes:
            return
        if not _is_being_fetched(path) and delete_unless_open(path):
            total -= _disk_bytes(status, path)


def _status(path: Path) -> os.stat_result | None:
    """None for what is not a file, or no longer: another process may have just deleted it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _disk_bytes(status: os.stat_result, path: Path) -> int:
    """What a file takes; an index that came in parts is mostly holes."""
    return status.st_size if path.suffix in _OF_SHARDS else min(status.st_size, allocated_bytes(status))


def _is_being_fetched(path: Path) -> bool:
    """Whether somebody holds the lock of a part's shard."""
    if path.suffix != ".part":
        return False
    try:
        with open(path.with_suffix(".lock"), "wb") as lock:
            lock_file(lock, wait=False)
    except BlockingIOError:
        return True
    return False


def writing(folder: Path) -> AbstractContextManager[None]:
    """Turns an error of the cache's disk inside into one sentence.

    Raises:
        UserError: The disk is full, read-only or broken.
    """
    return files.writing_to(f"to the cache {folder}", f"free space, or name another cache with {CACHE_VARIABLE}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock, between processes and threads alike.

    Raises:
        UserError: The cache belongs to another user, or its file system has no locks.
    """
    with ExitStack() as lock:
        with writing(path.parent):
            lock.enter_context(files.locked(path))
        yield
