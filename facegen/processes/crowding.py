"""Whether other programs occupy the cores that this process computes on (Linux)."""

from __future__ import annotations

from pathlib import Path

import torch

_TASKS = Path("/proc/self/task")
_CROWDED = 0.25
"""Share of their time that threads wait for a core before it is worth a sentence; alone it is below 0.05."""


class CoreWait:
    """Measures from now on how long this process's threads wait for a core instead of running."""

    def __init__(self) -> None:
        """Starts measuring."""
        self._start = _scheduled_ns()

    def share(self) -> float:
        """Time waited over time run and waited, 0 to 1; 0 where the system does not count it."""
        running, waiting = (now - before for now, before in zip(_scheduled_ns(), self._start, strict=True))
        return max(0.0, waiting) / (running + waiting) if running + waiting > 0 else 0.0

    def advice(self) -> str | None:
        """A sentence for the user where other programs slow this one down; None elsewhere."""
        share = self.share()
        if share < _CROWDED:
            return None
        # Only a sentence: sums of another number of threads are rounded differently.
        num_threads = torch.get_num_threads()
        left = max(1, int(num_threads * (1 - share)))
        fewer = (
            f", or start again with OMP_NUM_THREADS={left} instead of {num_threads} threads" if num_threads > 1 else ""
        )
        return (
            f"other programs use these cores: threads wait {100 * share:.0f} % of their time; end those programs{fewer}"
        )


def _scheduled_ns() -> tuple[int, int]:
    """Nanoseconds that the threads have run, and that they have waited for a core, summed over threads."""
    running = waiting = 0
    for file in _TASKS.glob("*/schedstat"):
        try:
            ran, waited, _ = map(int, file.read_text("utf-8").split())
        except (OSError, ValueError):  # A thread that has ended, or a kernel that does not count.
            continue
        running, waiting = running + ran, waiting + waited
    return running, waiting
