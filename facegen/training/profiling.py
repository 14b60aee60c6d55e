"""A trace of a few training steps, for ``--profile``: what runs when, on the CPU and on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import profiler

PROFILES = "profile"
"""Folder in the run."""
WARMUP_STEPS = 8
"""Steps before the traced ones, for caches and compilation; the profiler warms up over the last few of them."""
TRACED_STEPS = 5
_PROFILER_WARMUP_STEPS = 3
_TABLE_ROWS = 25


def span(name: str) -> AbstractContextManager[object]:
    """Names a part of a step in a trace; does nothing without one, as a name costs 20 microseconds."""
    is_traced = torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    return profiler.record_function(name) if is_traced else nullcontext()


class StepProfiler:
    """Traces ``TRACED_STEPS`` steps of this process and writes two files.

    ``NAME.pt.trace.json.gz`` opens in https://ui.perfetto.dev and in TensorBoard's profiler plugin, ``NAME.txt`` lists
    the slowest operations. The parts that ``span`` names appear by name.
    """

    def __init__(self, directory: Path | None, name: str, say: Callable[[str], None]) -> None:
        """Starts counting steps.

        Args:
            directory: For the files; None traces nothing.
            name: Of the files, another one in each process.
            say: Prints a line for the user.
        """
        self._directory, self._name, self._say = directory, name, say
        self._is_written = False
        self._profile: profiler.profile | None = None
        if directory is None:
            return
        self._profile = profiler.profile(
            schedule=profiler.schedule(
                wait=WARMUP_STEPS - _PROFILER_WARMUP_STEPS,
                warmup=_PROFILER_WARMUP_STEPS,
                active=TRACED_STEPS,
                repeat=1,
            ),
            on_trace_ready=self._write,
        )
        self._profile.start()

    def step(self) -> None:
        """Counts a finished step."""
        if self._profile:
            self._profile.step()

    def close(self) -> None:
        """Ends the trace, and writes the steps that were traced."""
        if self._profile is None:
            return
        self._profile.stop()
        if not self._is_written:
            self._say(f"no step was traced: training ended within the first {WARMUP_STEPS} steps, which warm up.")

    def _write(self, profile: profiler.profile) -> None:
        assert self._directory is not None
        if profile.step_num <= WARMUP_STEPS:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        trace = self._directory / f"{self._name}.pt.trace.json.gz"
        profile.export_chrome_trace(str(trace))
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profile.key_averages().table(sort_by=order, row_limit=_TABLE_ROWS)
        (self._directory / f"{self._name}.txt").write_text(table + "\n", encoding="utf-8")
        self._is_written = True
        self._say(f"traced steps are in {trace}; open it in https://ui.perfetto.dev")
