"""The batches of an evaluation during training; a process that is asked to stop ends it on every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from accelerate import Accelerator
from torch import Tensor

from facegen.processes.preemption import StopFlag
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.loading.loader import evaluation_batches
from shards.loading.pairs import Pairs, read_pairs


class PairBatch(NamedTuple):
    """Some of the pairs of a split."""

    start: int
    """Number of the first one."""
    first: Tensor
    """uint8, N x H x W x C."""
    second: Tensor
    """The same shape."""


def image_batches(
    dataset: Dataset,
    split: str,
    num_images: int,
    batch_size: int,
    accelerator: Accelerator,
    stop: StopFlag,
    fields: Sequence[str] = (),
) -> Iterator[Batch]:
    """This process's share of a split's first images; every process must read its share to the end.

    Args:
        dataset: Where the split is.
        split: Which one.
        num_images: How many of its first images.
        batch_size: Images of a batch on one process.
        accelerator: The processes.
        stop: Watches the batches.
        fields: Label fields to load.

    Raises:
        Preempted: From an iteration, when asked to stop.
    """
    batches = evaluation_batches(
        dataset,
        split,
        batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        limit=num_images,
        fields=fields,
    )
    return stop.watch(batches, num_votes=-(-num_images // (batch_size * accelerator.num_processes)))


def pair_batches(
    dataset: Dataset, split: str, pairs: Pairs, batch_size: int, accelerator: Accelerator, stop: StopFlag
) -> Iterator[PairBatch]:
    """This process's share of a split's pairs; as ``image_batches``, with pairs for images."""
    stride = batch_size * accelerator.num_processes
    starts = range(accelerator.process_index * batch_size, len(pairs.rows), stride)
    batches = (
        PairBatch(start, *read_pairs(dataset, split, pairs.rows[start : start + batch_size])) for start in starts
    )
    return stop.watch(batches, num_votes=-(-len(pairs.rows) // stride))
