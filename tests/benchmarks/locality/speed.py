"""What planning and loading cost in one lane and in many."""

from __future__ import annotations

import itertools
import statistics
import time
import tracemalloc
from dataclasses import dataclass

from shards.dataset.dataset import Dataset
from shards.loading.batch_plan import BatchPlan
from shards.loading.loader import TrainLoader
from shards.loading.order import EpochOrder

_BATCH_SIZE = 256
SAMPLES_PER_SHARD = 10_000
_PLANNED_BATCHES = 40_000


@dataclass(frozen=True)
class Planning:
    """Planning a data set in shards of ten thousand samples."""

    canonical_nodes: int
    world_size: int
    start_sec: float
    """CPU seconds from nothing to the first batch."""
    jump_sec: float
    """CPU seconds from there to a batch a hundred epochs later."""
    epoch_sec: float
    """CPU seconds of a rank for an epoch, from a part of it."""
    kept_mb: float
    """Memory that the plan of a rank keeps."""


def measure_planning(canonical_nodes: int, world_size: int, num_shards: int = 100_000) -> Planning:
    """Measures the last rank, in CPU seconds."""

    def seconds(samples_seen: int) -> float:
        started = time.process_time()
        plan.batch(samples_seen)
        return time.process_time() - started

    tracemalloc.start()
    started = time.process_time()
    order = EpochOrder([SAMPLES_PER_SHARD] * num_shards, seed=0, num_lanes=canonical_nodes)
    plan = BatchPlan(order, _BATCH_SIZE, world_size - 1, world_size)
    plan.batch(0)
    start_sec = time.process_time() - started
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    jump_sec = seconds(100 * plan.epoch_size + 1_000 * _BATCH_SIZE)
    started = time.process_time()
    num_planned = min(_PLANNED_BATCHES, plan.steps_per_epoch)
    for step in range(num_planned):
        plan.batch(step * _BATCH_SIZE)
    epoch_sec = (time.process_time() - started) / num_planned * plan.steps_per_epoch
    return Planning(
        canonical_nodes, world_size, round(start_sec, 3), round(jump_sec, 3), round(epoch_sec, 2), round(kept / 1e6, 2)
    )


@dataclass(frozen=True)
class Loading:
    """Loading on one core, in a median of interleaved rounds."""

    canonical_nodes: int
    from_memory: bool
    """Decoded images, of epochs after the first."""
    images_per_cpu_sec: float


def load(data: str, lanes: tuple[int, ...], rounds: int) -> list[Loading]:
    """Loads an epoch per round with each number of lanes, from files and from memory."""
    dataset = Dataset(data)
    kinds = list(itertools.product(lanes, (False, True)))
    batches, found = {}, {kind: [] for kind in kinds}
    for number, from_memory in kinds:
        loader = TrainLoader(
            dataset,
            "train",
            global_batch_size=_BATCH_SIZE,
            seed=0,
            canonical_nodes=number,
            decoded_bytes=10**9 if from_memory else 0,
        )
        batches[number, from_memory] = loader, iter(loader)
    for _ in range(1 + rounds):
        for kind in kinds:
            loader, stream = batches[kind]
            started = time.process_time()
            for _ in range(loader.steps_per_epoch):
                next(stream)
            found[kind].append(loader.epoch_size / (time.process_time() - started))
    return [Loading(*kind, round(statistics.median(found[kind][1:]))) for kind in kinds]
