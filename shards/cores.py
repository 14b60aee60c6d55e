"""How many processes make sense here."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Cores that this process may use, which a cluster's scheduler can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
