"""Watches a case from inside its process: time, memory, and every file that it opens for writing or should not read."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

HANG_SEC = 20.0
"""Time that a case spends waiting for a core, on a busy machine, does not count."""
_KILL_SEC = 600.0
"""A hang that no exception ends, inside a library's own code, ends the campaign with a dump of its stack."""
_ADDRESS_BYTES = 2 << 30
"""Address space that a case may add: a hostile size then fails in this process and not on the whole machine."""
WRITE_EVENTS: dict[str, Sequence[tuple[int, int | None]]] = {
    "os.mkdir": [(0, 2)],
    "os.rename": [(0, 2), (1, 3)],
    "os.remove": [(0, 1)],
    "os.rmdir": [(0, 1)],
    "os.link": [(1, 3)],
    "os.symlink": [(1, 2)],
    "os.chmod": [(0, 2)],
    "os.truncate": [(0, None)],
}
"""Audit events of changes: where the path stands, and the descriptor of the folder that it is relative to."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS = ("/dev/", "/proc/")


class HangError(BaseException):
    """More than ``HANG_SEC``. BaseException, so that no retry takes it for a failure."""


class Watch:
    """A context manager around one case; its attributes are complete when it ends."""

    _current: Watch | None = None
    _is_hooked = False

    def __init__(self, folder: Path, writes: Sequence[Path], bait: Path) -> None:
        """Starts at ``with``.

        Args:
            folder: Where the case may write; also for its temporary files and caches.
            writes: Other folders where it may write.
            bait: The folder that it may not even read.
        """
        self.seconds, self.peak_mib = 0.0, 0.0
        self.outside: list[str] = []
        self._folder, self._bait = f"{os.path.realpath(folder)}/", f"{os.path.realpath(bait)}/"
        self._given = (self._folder, *(f"{os.path.realpath(place)}/" for place in writes), *_HARMLESS)
        self._baits = _listing(bait)

    def __enter__(self) -> Watch:
        """Starts the clock, and sends temporary files and caches into the folder."""
        if not Watch._is_hooked:
            sys.addaudithook(_audit)  # Cannot be removed; does nothing outside a case.
            Watch._is_hooked = True
        self._before = tempfile.tempdir, os.environ.get("FACEGEN_CACHE"), sys.dont_write_bytecode
        tempfile.tempdir = os.environ["FACEGEN_CACHE"] = self._folder[:-1]
        sys.dont_write_bytecode = True
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + _ADDRESS_BYTES, self._limits[1]))
        Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
        self._resident = _status_bytes("VmRSS")
        self._handler = signal.signal(signal.SIGALRM, _raise_hang)
        signal.setitimer(signal.ITIMER_REAL, HANG_SEC)
        faulthandler.dump_traceback_later(_KILL_SEC, exit=True, file=sys.__stderr__)
        self._start_sec = _now_sec()
        Watch._current = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Puts everything back."""
        Watch._current = None
        self.seconds = _now_sec() - self._start_sec
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        faulthandler.cancel_dump_traceback_later()
        self.peak_mib = (_status_bytes("VmHWM") - self._resident) / 2**20
        resource.setrlimit(resource.RLIMIT_AS, self._limits)
        tempfile.tempdir, cache, sys.dont_write_bytecode = self._before
        if cache is None:
            os.environ.pop("FACEGEN_CACHE", None)
        else:
            os.environ["FACEGEN_CACHE"] = cache
        if _listing(Path(self._bait)) != self._baits:  # Also what no audit event tells, such as writes of a library.
            self.outside.append(f"files appeared or changed in {self._bait}")

    def saw(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judges one audit event."""
        if event == "open":
            changes, paths = is_write(arguments), [(arguments[0], None)]
        else:
            changes = True
            paths = [(arguments[path], None if at is None else arguments[at]) for path, at in WRITE_EVENTS[event]]
        for path, folder in paths:
            if isinstance(path, int) or path is None:
                continue
            place = _resolved(os.fsdecode(path), folder)
            if place.startswith(self._bait) or (changes and not f"{place}/".startswith(self._given)):
                self.outside.append(f"{event} of {place}")


def is_write(arguments: tuple[Any, ...]) -> bool:
    """Whether the arguments of an ``open`` event are those of writing."""
    return bool(arguments[2] & _WRITING)


def _resolved(path: str, folder: int | None) -> str:
    """The absolute path, links in its last part not followed."""
    if folder is not None and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    watch = Watch._current
    if watch is not None and (event == "open" or event in WRITE_EVENTS):
        watch.saw(event, arguments)


def _raise_hang(number: int, frame: FrameType | None) -> None:
    watch = Watch._current
    left_sec = 0.0 if watch is None else watch._start_sec + HANG_SEC - _now_sec()
    if left_sec <= 0:
        raise HangError
    signal.setitimer(signal.ITIMER_REAL, left_sec)


def _now_sec() -> float:
    """A clock that stands still while this thread waits for a core."""
    return time.monotonic() - int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(folder))


def _status_bytes(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:")) * 1024
