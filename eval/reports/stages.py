"""Time and memory of each stage of a report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eval.reports.results import Stage
from shards.base.operating_system import peak_memory_bytes
from shards.base.progress import ProgressLine

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Makes Linux reset the peak of resident memory (proc(5))."""


class Stages:
    """Measures stages one after the other, and shows the running one."""

    def __init__(self, quiet: bool = False) -> None:
        """Starts without stages; ``quiet`` hides the progress."""
        self.done: list[Stage] = []
        self._quiet = quiet

    @contextmanager
    def stage(self, name: str, run: str = "") -> Iterator[None]:
        """Measures the block.

        Args:
            name: Name of the stage.
            run: Name of the run; empty for what all runs share.
        """
        forget_peak()
        start = time.perf_counter()
        try:
            with ProgressLine(f"{run}: {name}" if run else name, quiet=self._quiet):
                yield
        finally:
            self.done.append(Stage(name, run, time.perf_counter() - start, peak_mib()))


def forget_peak() -> None:
    """Resets the peak for ``peak_mib`` if the system can; otherwise it counts from the start of the process."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK, encoding="utf-8")


def peak_mib() -> float:
    """Peak resident memory of this process in MiB."""
    try:
        lines = _STATUS.read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    except (OSError, StopIteration):
        return peak_memory_bytes() / 2**20
