"""SIGTERM and SIGUSR1 ask a run to save and stop; schedulers send them before they take a machine away."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType

import torch
from torch import distributed

EXIT_PREEMPTED = 143
"""128 + SIGTERM, what a shell reports for a process that SIGTERM ended."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Whether this process, or after ``agree`` any process, was asked to stop."""

    def __init__(self) -> None:
        """Installs the signal handlers. Outside the main thread Python allows none, and nothing is ever asked."""
        self.requested = False
        is_main = threading.current_thread() is threading.main_thread()
        numbers = _SIGNALS if is_main else ()
        self._previous = {number: signal.signal(number, self._request) for number in numbers}

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def agree(self, device: torch.device) -> bool:
        """Whether any process of the group was asked; every process must call it at the same step."""
        if not distributed.is_initialized():
            return self.requested
        flag = torch.tensor(float(self.requested), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        agreed = bool(flag.item())
        # A signal that came while this process waited for the others is not in the answer, and counts the next time.
        self.requested = self.requested or agreed
        return agreed

    def close(self) -> None:
        """Puts the previous signal handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def ignore_stop() -> None:
    """Lets this process end by itself, with its own exit code."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop_with_launcher() -> None:
    """Asks the kernel (Linux) for SIGTERM when the launcher dies, so that no orphan goes on training unseen."""
    if sys.platform == "linux" and any(name.startswith("ACCELERATE_") for name in os.environ):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG.
