"""What Linux, macOS and Windows do differently, behind the same functions.

A system is known by what its Python has, so that tests can take it away: Windows lacks ``fcntl``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
    import resource
except ImportError:
    import msvcrt

    fcntl = resource = None  # type: ignore[assignment]

READ_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""For ``os.open``. Without O_NONBLOCK, opening a pipe waits for a writer that may never come; without O_BINARY, Windows
changes line breaks."""
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Makes ``os.open`` refuse links; 0 where it cannot."""
DELETES_OPEN_FILES = fcntl is not None
"""Whether files can be deleted, renamed and replaced while somebody has them open."""
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))
"""Ask a program to save and stop. On Windows nobody can send it SIGTERM, but Ctrl+Break in its console is SIGBREAK."""

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS, where fsync leaves the content in the memory of the disk itself."""
_SETS_TIMES_OF_DESCRIPTORS = os.utime in os.supports_fd
_POLL_SEC = 0.05
_RETRYING_SEC = 1.0
_ZEROS = bytes(2**20)


def lock_file(file: IO[Any], wait: bool) -> None:
    """Locks an open file, exclusively between processes and threads alike, until it is closed.

    Args:
        file: The file, just opened.
        wait: Wait for another holder.

    Raises:
        BlockingIOError: There is another holder; only without ``wait``.
        OSError: Its file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    while True:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            return
        except PermissionError:
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        time.sleep(_POLL_SEC)  # LK_LOCK waits as well, but gives up after ten seconds.


def fsync(path: Path) -> None:
    """Makes a file's content, or a folder's names, durable. Windows has no way to wait for a folder's names.

    Raises:
        OSError: The disk is full or broken.
    """
    if fcntl is None and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if fcntl is not None else os.O_RDWR)  # Windows flushes what it may write.
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """Makes the content of a file that is open for writing durable.

    Raises:
        OSError: The disk is full or broken.
    """
    if fcntl is not None and _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
        except OSError as error:  # Disks on the network know fsync only.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames a file, replacing another, or a folder.

    Windows refuses while anybody has the file open, and virus scanners open new ones: there it is tried for a second.

    Raises:
        OSError: The disk is full, read-only or broken.
    """
    deadline = time.monotonic() + _RETRYING_SEC
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if DELETES_OPEN_FILES or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SEC)


def delete_unless_open(path: Path) -> bool:
    """Deletes a file if it is there; False where Windows refuses since somebody has it open."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if DELETES_OPEN_FILES:
            raise
        return False
    return True


def touch(descriptor: int, path: Path) -> None:
    """Sets the times of an open file to now, on Windows by its path: nobody can delete it there meanwhile."""
    os.utime(descriptor if _SETS_TIMES_OF_DESCRIPTORS else path)


def allocated_bytes(status: os.stat_result) -> int:
    """What a file takes on its disk; its length where the system does not say."""
    return status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size


def reserve(file: IO[bytes], num_bytes: int) -> None:
    """Gives an empty file a length, and the room for it.

    Raises:
        OSError: The disk has no room for it.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return
    for start in range(0, num_bytes, len(_ZEROS)):
        file.write(_ZEROS[: num_bytes - start])
    file.flush()


def peak_memory_bytes() -> int:
    """Peak resident memory of this process."""
    if resource is None:
        import psutil

        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_at(descriptor: int, num_bytes: int, offset: int) -> bytes:
    with FILE_POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, num_bytes)


def _read_into(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
    (buffer,) = buffers
    data = read_at(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def _write_at(descriptor: int, data: Any, offset: int) -> int:
    with FILE_POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


FILE_POSITION: AbstractContextManager[Any] = nullcontext() if hasattr(os, "pread") else threading.Lock()
"""Held by whoever moves the position of a file that other threads read with ``read_at``, which moves it on Windows."""
read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _read_at)
"""``os.pread``: from any thread, bytes of an open file (descriptor, number, offset); fewer at its end."""
read_into: Callable[[int, Sequence[Any], int], int] = getattr(os, "preadv", _read_into)
"""``os.preadv`` with one buffer of bytes (descriptor, [buffer], offset); returns how many bytes it read."""
write_at: Callable[[int, Any, int], int] = getattr(os, "pwrite", _write_at)
"""``os.pwrite``: writes at a place of an open file (descriptor, data, offset); returns how many bytes it wrote."""


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Blocks Ctrl-C for processes that are started inside; where that cannot be, they call ``ignore_interrupts``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def ignore_interrupts() -> None:
    """For a process that was started with ``interrupts_blocked``: ignores Ctrl-C where it could not be blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
