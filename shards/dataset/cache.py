"""The folder that keeps shards from elsewhere on this machine: bounded, and shared by all processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from shards.base import files
from shards.base.errors import UserError
from shards.base.places import CACHE_VARIABLE, cache_directory

SIZE_VARIABLE = "FACEGEN_SHARD_CACHE_GB"
DEFAULT_CACHE_GB = 20.0


def cache_bytes() -> int:
    """How much disk space the shards of all data sets may take together.

    Raises:
        UserError: The variable ``FACEGEN_SHARD_CACHE_GB`` is not a positive number.
    """
    text = os.environ.get(SIZE_VARIABLE, str(DEFAULT_CACHE_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise UserError(f"{SIZE_VARIABLE} must be a positive number of gigabytes, not '{text}'.")
    return int(gigabytes * 1e9)


def shards_folder() -> Path:
    """The folder that holds one folder for each data set."""
    return cache_directory() / "shards"


def make_room(folder: Path, allowed_bytes: int) -> None:
    """Deletes the least recently used shards until the others take at most ``allowed_bytes``."""
    shards = [(path.stat(), path) for path in folder.glob("*/*.tar")]
    total = sum(status.st_size for status, _ in shards)
    for status, path in sorted(shards, key=lambda item: item[0].st_mtime):
        if total <= allowed_bytes:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size


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
