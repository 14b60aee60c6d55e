"""A disk that fails at its n-th change: an opened file, a write, an fsync, a rename or a new folder."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS_OF_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class FailingDisk:
    """Counts the changes below a folder, and fails one of them.

    Attributes:
        changes: What was changed so far, such as ``write dataset.json``.
        failed: The change that failed; empty before it is reached.
    """

    def __init__(self, root: Path, fails_at: int, number: int) -> None:
        self._root = os.fspath(root.resolve())
        self._fails_at = fails_at
        self._number = number
        self.changes: list[str] = []
        self.failed = ""

    def change(self, what: str, path: Any) -> None:
        """Counts a change of a path or an open file, and raises if it is the one that fails."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(self._root):
            return
        self.changes.append(f"{what} {os.path.relpath(path, self._root)}")
        if len(self.changes) == self._fails_at:
            self.failed = self.changes[-1]
            raise OSError(self._number, os.strerror(self._number), path)


@contextmanager
def failing_disk(root: Path, fails_at: int, number: int) -> Iterator[FailingDisk]:
    """Replaces Python's ways to the disk; libraries that write on their own are not seen."""
    disk = FailingDisk(root, fails_at, number)

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            disk.change("write", self.fileno())
            return super().write(data)

        def truncate(self, size: int | None = None) -> int:
            disk.change("truncate", self.fileno())
            return super().truncate(size)

    real_open, real_os_open, real_write = io.open, os.open, os.write

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, *args, **options)
        disk.change("open", file)
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, line_buffering=buffering == 1, **options)

    def os_open(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & _FLAGS_OF_WRITING and not flags & os.O_DIRECTORY:
            disk.change("open", path)
        return real_os_open(path, flags, *args, **options)

    def os_write(descriptor: int, data: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith("/"):
            disk.change("write", descriptor)
        return real_write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", open_file)
        patch.setattr(io, "open", open_file)
        patch.setattr(os, "open", os_open)
        patch.setattr(os, "write", os_write)
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, _counted(disk, name, getattr(os, name)))
        yield disk


def _counted(disk: FailingDisk, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(path: Any, *args: Any, **options: Any) -> Any:
        disk.change(name, args[0] if name in ("replace", "rename") else path)
        return function(path, *args, **options)

    return counted


def fail_at_every_change(
    root: Path,
    numbers: tuple[int, ...],
    command: Callable[[Path], None],
    result: Callable[[Path], Any],
    sentences: tuple[type[Exception], ...],
    step: int = 1,
) -> list[str]:
    """Runs a command in fresh folders, failing its first change, its second, and so on until it has no more.

    Asserts that each failure is one sentence, and that the same command then gives the result of a run without faults.

    Args:
        root: Where to make the folders.
        numbers: Error numbers, taken in turn.
        command: Does the work in a folder.
        result: What it made there, for comparison.
        sentences: The errors that entry points print as one sentence.
        step: Tries every ``step``-th change only.

    Returns:
        The changes that failed.
    """
    (root / "whole").mkdir(parents=True)
    command(root / "whole")
    expected, failed = result(root / "whole"), []
    for position in range(1, 10_000, step):
        folder = root / f"fault_{position}"
        folder.mkdir()
        with failing_disk(folder, position, numbers[position % len(numbers)]) as disk:
            try:
                command(folder)
                outcome: Exception | None = None
            except sentences as error:
                outcome = error  # Kept, as a notebook keeps the last one: no lock may wait for its frames.
            except Exception as error:
                raise AssertionError(f"no sentence when {disk.failed} failed") from error
        if not disk.failed:
            assert outcome is None and len(disk.changes) < position
            return failed
        failed.append(disk.failed)
        if outcome is not None:
            text = str(outcome)
            assert text and "\n" not in text and text.endswith("."), f"at {disk.failed}: {text}"
        try:
            command(folder)
        except Exception as error:
            raise AssertionError(f"after {disk.failed} failed") from error
        assert result(folder) == expected, f"after {disk.failed} failed"
    raise AssertionError("the command never ended")
