"""Time and memory of each stage of a report."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from eval.reports.results import Stage

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Makes Linux reset the peak of resident memory (proc(5))."""


class Stages:
    """Measures stages one after the other, and shows the running one on the terminal."""

    def __init__(self, quiet: bool = False) -> None:
        """Starts without stages; ``quiet`` hides the progress line."""
        self.done: list[Stage] = []
        layout = "{desc} [{n} stages done, {elapsed}]"
        self._progress = tqdm(desc="report", bar_format=layout, leave=False, disable=quiet or None)

    @contextmanager
    def stage(self, name: str, run: str = "") -> Iterator[None]:
        """Measures the block.

        Args:
            name: Name of the stage.
            run: Name of the run; empty for what all runs share.
        """
        self._progress.set_description_str(f"{run}: {name}" if run else name)
        forget_peak()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.done.append(Stage(name, run, time.perf_counter() - start, peak_mib()))
            self._progress.update()

    def close(self) -> list[Stage]:
        """Ends the progress line and returns all stages."""
        self._progress.close()
        return self.done


def forget_peak() -> None:
    """Resets the peak for ``peak_mib`` if the system can; otherwise it counts from the start of the process."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def peak_mib() -> float:
    """Peak resident memory of this process in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    except (OSError, StopIteration):
        # macOS counts in bytes, all others in KiB.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
