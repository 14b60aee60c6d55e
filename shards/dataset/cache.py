"""The folder in which shards from elsewhere are kept on this machine: bounded, and shared by all processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.base.errors import UserError
from shards.base.places import CACHE_VARIABLE, cache_directory

SIZE_VARIABLE = "FACEGEN_SHARD_CACHE_GB"
DEFAULT_CACHE_GB = 20.0


def cache_bytes() -> int:
    """How much the shards of all data sets may take on the local disk.

    Raises:
        UserError: The variable ``FACEGEN_SHARD_CACHE_GB`` holds no positive number.
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
    """Has a folder for the files of each data set."""
    return cache_directory() / "shards"


def make_room(folder: Path, allowed_bytes: int) -> None:
    """Deletes the shards that have not been used for longest until the others take at most ``allowed_bytes``."""
    shards = [(path.stat(), path) for path in folder.glob("*/*.tar")]
    total = sum(status.st_size for status, _ in shards)
    for status, path in sorted(shards, key=lambda item: item[0].st_mtime):
        if total <= allowed_bytes:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that others see whole or not at all.

    Raises:
        UserError: As ``writing``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path.parent):
        temporary.write_bytes(content)
        os.replace(temporary, path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses inside into a sentence.

    Raises:
        UserError: The disk is full, read-only or broken.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(folder: Path, error: OSError) -> UserError:
    """What to say when the cache cannot be written to."""
    return UserError(
        f"cannot write to the cache {folder} ({error.strerror}); make room, or name another with {CACHE_VARIABLE}."
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock, between processes and threads alike.

    Raises:
        UserError: The cache belongs to somebody else, or its file system knows no locks.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "w")  # noqa: SIM115
    with lock:
        with writing(path.parent):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
