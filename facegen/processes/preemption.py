"""SIGTERM and SIGUSR1 ask a run to save and stop; schedulers send them before they take a machine away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

import torch

from facegen.processes.group import Agreement

EXIT_PREEMPTED = 143
"""128 + SIGTERM, what a shell reports for a process that SIGTERM ended."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


BatchT = TypeVar("BatchT")


class _Interrupted(BaseException):
    """A signal came during a wait; no ``Exception``, which a fetch that is tried again would take for a failure."""


class StopFlag:
    """Whether this process, or after ``agree`` any process, was asked to stop."""

    def __init__(self) -> None:
        """Installs the signal handlers. Outside the main thread Python allows none, and nothing is ever asked."""
        self.requested = False
        self._is_waiting = False
        is_main = threading.current_thread() is threading.main_thread()
        numbers = _SIGNALS if is_main else ()
        self._previous = {number: signal.signal(number, self._request) for number in numbers}

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._is_waiting:
            self._is_waiting = False
            raise _Interrupted

    def wait_for(self, batches: Iterator[BatchT]) -> BatchT | None:
        """The next batch; None at the end of them, and as soon as this process is asked to stop.

        A server that does not answer can keep data away for longer than a launcher waits for a process to end.
        """
        try:
            self._is_waiting = True
            return None if self.requested else next(batches, None)
        except _Interrupted:
            return None
        finally:
            self._is_waiting = False

    def ask(self, device: torch.device) -> Agreement:
        """Asks the group whether to go on, for ``heed``; every process must call both at the same step."""
        return Agreement([not self.requested], device)

    def heed(self, going_on: Agreement) -> bool:
        """Whether any process of the group was asked to stop before its ``ask``."""
        stops = not all(going_on.read())
        # A signal that came while this process waited for the others is not in the answer, and counts the next time.
        self.requested = self.requested or stops
        return stops

    def agree(self, device: torch.device) -> bool:
        """Whether any process of the group was asked; every process must call it at the same step."""
        return self.heed(self.ask(device))

    def close(self) -> None:
        """Puts the previous signal handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def ignore_stop() -> None:
    """Lets this process end by itself, with its own exit code."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
