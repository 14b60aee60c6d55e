"""How long each stage of a report takes, and how much memory."""

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
"""What Linux takes to forget the highest resident memory so far (proc(5))."""


class Stages:
    """Measures stages one after the other, and says on the terminal which one is running."""

    def __init__(self, quiet: bool = False) -> None:
        """Starts without a stage; ``quiet`` shows no progress."""
        self.done: list[Stage] = []
        layout = "{desc} [{n} stages done, {elapsed}]"
        self._progress = tqdm(desc="report", bar_format=layout, leave=False, disable=quiet or None)

    @contextmanager
    def stage(self, name: str, run: str = "") -> Iterator[None]:
        """Measures what is done inside.

        Args:
            name: Of the stage.
            run: Whose it is; empty for all runs.
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
    """Lets ``peak_mib`` count from here on, where the system can; elsewhere it counts from the process's start."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def peak_mib() -> float:
    """Highest resident memory of this process in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    except (OSError, StopIteration):
        # macOS counts in bytes, all others in KiB.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
