"""The memory of a server that runs for weeks."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8


def share_heap() -> bool:
    """Lets all threads of this process allocate from one heap; call it before they start.

    By default glibc gives each thread a heap of its own, which keeps the memory of the largest image that the thread
    ever decoded: 33 MB for each thread, one after the other.

    Returns:
        Whether malloc accepted it; False without glibc, and where malloc's environment variables are set, which win.
    """
    if os.environ.keys() & {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return bool(mallopt and mallopt(_M_ARENA_MAX, 1))
