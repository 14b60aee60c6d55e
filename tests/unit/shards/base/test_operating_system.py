"""The equivalents of what this system has and others lack."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from shards.base import operating_system
from shards.base.plain_files import open_plain

NOT_ON_WINDOWS = ("pread", "preadv", "pwrite", "posix_fallocate", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")


def locking(descriptor: int, mode: int, num_bytes: int) -> None:
    """``msvcrt.locking``, whose error for a locked file is EACCES."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def loaded() -> ModuleType:
    """The module as it is on the pretended system."""
    spec = importlib.util.spec_from_file_location("elsewhere", operating_system.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with monkeypatch.context() as patch:
        for name in ("fcntl", "resource"):
            patch.setitem(sys.modules, name, None)
        patch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))  # type: ignore[arg-type]
        for name in NOT_ON_WINDOWS:
            patch.delattr(os, name)
        patch.delattr(signal, "SIGUSR1")
        patch.delattr(signal, "pthread_sigmask")
        patch.setattr(signal, "SIGBREAK", 21, raising=False)
        patch.setattr(os, "supports_fd", set())
        yield loaded()


@pytest.fixture(params=["here", "windows"])
def system(request: pytest.FixtureRequest) -> ModuleType:
    return operating_system if request.param == "here" else request.getfixturevalue("windows")


def test_here_the_functions_are_those_of_the_system() -> None:
    assert operating_system.read_at is os.pread
    assert operating_system.read_into is os.preadv
    assert operating_system.write_at is os.pwrite
    assert operating_system.NO_FOLLOW == os.O_NOFOLLOW
    assert operating_system.STOP_SIGNALS == (signal.SIGTERM, signal.SIGUSR1)


def test_a_lock_keeps_other_holders_out_until_its_file_is_closed(system: ModuleType, tmp_path: Path) -> None:
    first, second = open(tmp_path / "lock", "wb"), open(tmp_path / "lock", "wb")  # noqa: SIM115 - closed below
    system.lock_file(first, wait=False)
    with pytest.raises(BlockingIOError):
        system.lock_file(second, wait=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(system.lock_file, second, True)
        time.sleep(0.2)
        assert not waiting.done()
        first.close()
        waiting.result(timeout=10)
    second.close()


def test_threads_read_and_write_the_same_file_at_their_places(system: ModuleType, tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        descriptor = file.fileno()

        def copy(start: int) -> bool:
            assert system.write_at(descriptor, memoryview(content)[start : start + 64], start) == 64
            buffer = bytearray(64)
            assert system.read_into(descriptor, [memoryview(buffer)], start) == 64
            return buffer == system.read_at(descriptor, 64, start) == content[start : start + 64]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(copy, range(0, len(content), 64)))
        assert system.read_at(descriptor, 100, len(content) - 3) == content[-3:]
        assert system.read_into(descriptor, [memoryview(bytearray(100))], len(content) - 3) == 3
    assert (tmp_path / "file").read_bytes() == content


def test_files_and_folders_are_made_durable(
    windows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def flush(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")  # As Windows does.
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", flush)
    (tmp_path / "file").write_bytes(b"content")
    windows.fsync(tmp_path / "file")
    windows.fsync(tmp_path)
    assert synced == [str(tmp_path / "file")]


@pytest.mark.parametrize(("number", "calls"), [(0, [51]), (errno.ENOTSUP, [51, "fsync"]), (errno.EIO, None)])
def test_macos_flushes_the_memory_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, calls: list[Any] | None
) -> None:
    made: list[Any] = []

    def control(descriptor: int, command: int) -> None:
        made.append(command)
        if number:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda descriptor: made.append("fsync"))
    system = loaded()
    if calls is None:
        with pytest.raises(OSError, match="Input/output error"):
            system.fsync(tmp_path)
    else:
        system.fsync(tmp_path)
        assert made == calls


def refused(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """As ``real``, after so many refusals."""
    left = iter(range(times))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(*arguments, **options)

    return call


def test_a_file_that_a_scanner_has_open_is_renamed_a_little_later(
    windows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_bytes(b"new")
    monkeypatch.setattr(os, "replace", refused(3, os.replace))
    windows.rename(tmp_path / "old", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_rename_that_is_always_refused_is_an_error(
    system: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", refused(10**6, os.replace))
    start = time.monotonic()
    with pytest.raises(PermissionError):
        system.rename(tmp_path / "old", tmp_path / "file")
    assert (time.monotonic() - start > 0.9) == (system is not operating_system)


def test_an_open_file_is_deleted_where_the_system_can(
    system: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert system.delete_unless_open(tmp_path / "file")
    assert system.delete_unless_open(tmp_path / "file")
    monkeypatch.setattr(Path, "unlink", refused(1, Path.unlink))
    if system is operating_system:
        with pytest.raises(PermissionError):
            system.delete_unless_open(tmp_path / "file")
    else:
        assert not system.delete_unless_open(tmp_path / "file")


def test_room_is_reserved(system: ModuleType, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as file:
        system.reserve(file, 3 * 2**20 + 5)
        status = os.fstat(file.fileno())
    assert status.st_size == 3 * 2**20 + 5
    assert system.allocated_bytes(status) >= status.st_size
    assert system.allocated_bytes(SimpleNamespace(st_size=7)) == 7


def test_times_are_set(system: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (1e9, 1e9))
    descriptor = os.open(path, system.READ_FLAGS)
    system.touch(descriptor, path)
    os.close(descriptor)
    assert time.time() - path.stat().st_mtime < 100


def test_memory_is_measured(windows: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    peak = operating_system.peak_memory_bytes()
    assert 10 * 2**20 < psutil.Process().memory_info().rss < 2 * peak
    memory = SimpleNamespace(peak_wset=5 * 2**20)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: memory))
    assert windows.peak_memory_bytes() == 5 * 2**20
    monkeypatch.setattr(sys, "platform", "darwin")
    assert 1024 * operating_system.peak_memory_bytes() >= peak  # macOS counts in bytes, Linux in KiB.


def test_windows_is_asked_to_stop_by_other_signals(windows: ModuleType) -> None:
    assert windows.STOP_SIGNALS == (signal.SIGTERM, 21)


def test_interrupts_are_ignored_where_they_cannot_be_blocked(windows: ModuleType) -> None:
    previous = signal.getsignal(signal.SIGINT)
    try:
        with windows.interrupts_blocked():
            assert signal.getsignal(signal.SIGINT) is previous
        windows.ignore_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_links_are_refused_without_the_systems_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    monkeypatch.setattr("shards.base.plain_files.NO_FOLLOW", 0)
    os.close(open_plain(tmp_path / "file"))
    for name in ("link", "."):
        with pytest.raises(OSError, match="a link, a pipe, a device or a folder"):
            open_plain(tmp_path / name)
