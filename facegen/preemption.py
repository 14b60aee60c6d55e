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


class StopFlag:
    """Whether this process, or after ``agree`` any process, was asked to stop."""

    def __init__(self) -> None:
        """Installs the signal handlers. Outside the main thread Python allows none, and nothing is ever asked."""
        self.requested = False
        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGTERM, signal.SIGUSR1) if is_main else ()
        self._previous = {number: signal.signal(number, self._request) for number in numbers}

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def agree(self, device: torch.device) -> bool:
        """Whether any process of the group was asked; every process must call it at the same step."""
        if not distributed.is_initialized():
            return self.requested
        flag = torch.tensor(float(self.requested), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        self.requested = bool(flag.item())
        return self.requested

    def close(self) -> None:
        """Puts the previous signal handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def stop_with_launcher() -> None:
    """Asks the kernel (Linux) for SIGTERM when the launcher dies, so that no orphan goes on training unseen."""
    if sys.platform == "linux" and any(name.startswith("ACCELERATE_") for name in os.environ):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG.
