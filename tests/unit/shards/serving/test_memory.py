"""One heap for all threads of a server."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from shards.serving.memory import share_heap

_HEAPS = """
import ctypes, os, sys, threading
from shards.serving.memory import share_heap
assert sys.argv[1] == "each" or share_heap()
barrier = threading.Barrier(6)
def work():
    kept = [bytearray(100_000) for _ in range(10)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="needs glibc")
def test_threads_share_one_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    heaps = {
        mode: subprocess.run([sys.executable, "-c", _HEAPS, mode], capture_output=True, text=True, check=True).stdout
        for mode in ("each", "shared")
    }
    assert heaps["each"].count("<heap nr=") > 1
    assert heaps["shared"].count("<heap nr=") == 1


def test_a_variable_of_malloc_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not share_heap()
