"""Writing files: whole or not at all, durable where that counts, and one sentence where the disk refuses."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.base.errors import UserError
from shards.base.operating_system import fsync, lock_file, rename

if TYPE_CHECKING:
    import numpy as np


def publish(temporary: Path, final: Path, durable: bool = True) -> None:
    """Gives a finished file its name; whoever opens ``final`` finds the old file or the new one, never half of it.

    Args:
        temporary: The finished file, on the same file system.
        final: Its name; a file of that name is replaced.
        durable: Return only when the content and the name would survive a power cut.

    Raises:
        OSError: The disk is full, read-only or broken.
    """
    if durable:
        fsync(temporary)
    rename(temporary, final)
    if durable:
        fsync(final.parent)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` to write to, and publishes it; an exception inside leaves no trace.

    Raises:
        OSError: As ``publish``.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        publish(temporary, path, durable)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_bytes(path: Path, content: bytes | bytearray | memoryview, durable: bool = True) -> None:
    """Writes a file as ``replacing`` does.

    Raises:
        OSError: As ``publish``.
    """
    with replacing(path, durable) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any, durable: bool = True, indent: int | None = None) -> None:
    """Writes JSON as ``replacing`` does; NaN and infinity, which JSON lacks, are a ``ValueError``.

    Raises:
        OSError: As ``publish``.
    """
    write_bytes(path, json_bytes(content, indent), durable)


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """JSON as ``write_json`` writes it; NaN and infinity are a ``ValueError``."""
    text = json.dumps(content, indent=indent, allow_nan=False)
    return (text if indent is None else text + "\n").encode()


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file as ``replacing`` does, and makes the folders above it; not durable.

    Raises:
        UserError: Nothing can be written there.
    """
    import numpy as np
    from safetensors.numpy import save

    # safetensors writes memory as it lies, which is another array where that is not in C order.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    make_folder(path.parent)
    with writing_to(path):
        write_bytes(path, save(contiguous, dict(metadata) if metadata else None), durable=False)


@contextmanager
def writing_to(path: str | Path, advice: str = "free space, or choose another place") -> Iterator[None]:
    """Turns an error of the disk inside into one sentence.

    Args:
        path: What is written, for the message.
        advice: What the user can do about it.

    Raises:
        UserError: The disk is full, read-only or broken.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}); {advice}.") from None


def make_folder(path: str | Path) -> Path:
    """Makes a folder and those above it.

    Raises:
        UserError: It cannot be made.
    """
    with writing_to(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def check_writable(path: str | Path, advice: str = "free space, or choose another place") -> None:
    """Checks before long work that a file can be written at its end, and makes the folders above it.

    Raises:
        UserError: It cannot be written.
    """
    path = Path(path)
    with writing_to(path, advice):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        _try_out(path)


def output_folder(path: str | Path, advice: str = "free space, or choose another place") -> Path:
    """Makes a folder for the results of long work, and checks that files can be written in it.

    Raises:
        UserError: It cannot be made or written to.
    """
    with writing_to(f"to {path}", advice):
        Path(path).mkdir(parents=True, exist_ok=True)
        _try_out(Path(path) / "output")
    return Path(path)


def _try_out(path: Path) -> None:
    temporary = _temporary(path)
    temporary.touch()
    temporary.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file, made if missing, between processes and threads alike.

    Raises:
        OSError: The file cannot be made, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as lock:
        lock_file(lock, wait=True)
        yield


@contextmanager
def only_one(path: Path, busy: str) -> Iterator[None]:
    """As ``locked``, but refuses to wait for another holder.

    Raises:
        UserError: Another process or thread holds the lock (``busy`` is the sentence), the file cannot be made, or its
            file system has no locks.
    """
    make_folder(path.parent)
    with writing_to(path):
        lock = open(path, "wb")  # noqa: SIM115 - closed below
    with lock:
        try:
            lock_file(lock, wait=False)
        except OSError as error:
            no_locks = f"cannot lock {path} ({error.strerror}); choose another place."
            raise UserError(busy if isinstance(error, BlockingIOError) else no_locks) from None
        yield
