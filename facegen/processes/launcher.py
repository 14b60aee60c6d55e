"""Ends a training with its launcher. Imports nothing heavy, so that it works from the first moment."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def stop_with_launcher() -> None:
    """Asks the kernel (Linux) for SIGTERM when the launcher dies; a run that trains then saves, any other just ends."""
    if sys.platform == "linux" and any(name.startswith("ACCELERATE_") for name in os.environ):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG.
