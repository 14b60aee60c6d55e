"""Opening and loading a data set in a process of its own, and what memory that takes."""

from __future__ import annotations

import gc
import itertools
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader

_BATCH_SIZE = 256
_NUM_BATCHES = 400
_POLL_SEC = 0.005


@dataclass(frozen=True)
class Loading:
    """One process; imports are not counted."""

    open_sec: float
    """CPU seconds until the manifest is read."""
    check_sec: float
    """CPU seconds from there until every shard is there and every column is checked."""
    first_batch_sec: float
    """CPU seconds from there to the first batch."""
    wall_sec: float
    """Of these three together, on the wall."""
    images_per_cpu_sec: float
    private_mb: float
    """Most memory of its own, above that of the imports."""
    mapped_mb: float
    """Pages of the index in memory at the end, which processes share and the system may take back."""


def load(root: str, rank: int, world_size: int, fields: list[str]) -> Loading:
    """Loads ``_NUM_BATCHES`` batches of 256 images over all ranks, and some labels; the process must be new."""
    Dataset(root)  # Imports what it takes.
    gc.collect()
    peak, before = _Peak(), _memory()
    wall, cpu = time.perf_counter(), [time.process_time()]
    dataset = Dataset(root)
    cpu.append(time.process_time())
    loader = TrainLoader(
        dataset, "train", global_batch_size=_BATCH_SIZE, seed=0, rank=rank, world_size=world_size, fields=fields
    )
    cpu.append(time.process_time())
    batches = iter(loader)
    next(batches)
    wall = time.perf_counter() - wall
    cpu.append(time.process_time())
    for _ in range(_NUM_BATCHES):
        next(batches)
    cpu.append(time.process_time())
    *to_first_batch, loading = (later - earlier for earlier, later in itertools.pairwise(cpu))
    return Loading(
        *(round(seconds, 2) for seconds in to_first_batch),
        wall_sec=round(wall, 1),
        images_per_cpu_sec=round(_NUM_BATCHES * _BATCH_SIZE / world_size / loading),
        private_mb=round((peak.stop() - before["RssAnon"]) / 1e6),
        mapped_mb=round((_memory()["RssFile"] - before["RssFile"]) / 1e6),
    )


class _Peak:
    """Watches the memory that only this process has."""

    def __init__(self) -> None:
        self._most, self._ends = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ends.wait(_POLL_SEC):
            self._most = max(self._most, _memory()["RssAnon"])

    def stop(self) -> int:
        """Bytes at the most."""
        self._ends.set()
        self._thread.join()
        return self._most


def _memory() -> dict[str, int]:
    text = Path("/proc/self/status").read_text()
    return {name: int(number) * 1024 for name, number in re.findall(r"(Rss\w+):\s+(\d+) kB", text)}
