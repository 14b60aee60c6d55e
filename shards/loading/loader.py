"""Batches of uint8 images and labels: the plan says which, the reader fetches and decodes, threads do it ahead of time.

Threads and not processes: the JPEG decoder and ``pread`` release the GIL, so threads scale, and need no pickling, no
shared memory and no worker that can be killed or left behind. All that has to be saved are two integers: how many
samples were seen, and into how many lanes their order is cut.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import numpy as np
import torch

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import Mixture
from shards.loading.batch import Batch, BatchReader, Share
from shards.loading.batch_plan import BatchPlan, evaluation_rows
from shards.loading.mixed_plan import MixedPlan, lanes_that_fit, mixed_orders
from shards.loading.order import EpochOrder, default_canonical_nodes
from shards.loading.units import SingleSamples, Units

_READ_IMAGES = 256
"""Reads small batches together, this many images at a time: the first read after a training step runs cache-cold, and
takes several times as long as one right after it."""

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


class TrainLoader:
    """The share of this rank in each global batch, in the order of the plan, without end.

    Iterating continues at ``samples_seen``; stopping ends the threads. Each process makes its own loader: do not hand
    it to ``accelerator.prepare``. It suits ``accelerator.register_for_checkpointing``.

    Attributes:
        steps_per_epoch: Global batches of an epoch, the same for every rank.
        epoch_size: Samples of an epoch over all ranks, by which ``samples_seen`` grows.
        num_left_out: Samples that each epoch leaves out, because they fill no whole batch.
        canonical_nodes: Lanes of the order, which depends on it.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        global_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        local_world_size: int | None = None,
        canonical_nodes: int | None = None,
        num_threads: int = 2,
        prefetch_batches: int = 4,
        decoded_bytes: int = 0,
        fields: Sequence[str] | None = None,
        images: bool = True,
        pin_memory: bool = False,
        units: Units | None = None,
    ) -> None:
        """Plans the batches; nothing is read before the first iteration.

        Args:
            dataset: Where the samples are.
            split: Which of its splits.
            global_batch_size: Samples of a batch over all ranks.
            seed: Seed of the order.
            rank: This process, from 0.
            world_size: How many processes there are.
            local_world_size: How many of them run on each machine, neighbors in rank, and share its cache of remote
                shards; all of them when None.
            canonical_nodes: Cuts the data into this many lanes, each of which gives every batch the same number of
                units: as many machines, or half or a quarter as many, each read a share of the shards, and not all of
                them. The order depends on it. When None, it follows from the data set and the global batch size.
            num_threads: Threads that read and decode; 0 reads in the calling thread, on demand.
            prefetch_batches: Batches in progress or ready ahead of the consumer, more if they are small; each takes the
                memory of its images.
            decoded_bytes: Memory for decoded images; what does not fit is decoded in every epoch.
            fields: Label fields to load; all when None.
            images: Whether to read images; without them, those of a batch have the shape N x 0 x 0 x 0.
            pin_memory: Batches in page-locked memory, for asynchronous copies to a CUDA device.
            units: What is drawn as a whole; single samples when None.

        Raises:
            UserError: A split without samples, a field that isn't there, or numbers that don't go together.
        """
        _check_at_least(0, "num_threads", num_threads)
        _check_at_least(1, "prefetch_batches", prefetch_batches)
        _check_at_least(0, "decoded_bytes", decoded_bytes)
        if pin_memory and not torch.cuda.is_available():
            raise UserError("pin_memory needs a CUDA device and there is none; leave it out.")
        self._read = BatchReader(dataset, split, fields, pin_memory, decoded_bytes, images)
        self._units = units or SingleSamples(dataset.shard_sizes(split))
        self._seed = seed
        self._ranks = rank, world_size, local_world_size or world_size
        self._given_nodes = canonical_nodes
        self._weights: Sequence[int] | None = dataset.shares if isinstance(dataset, Mixture) else None
        self._parts = {part.address: part.shard_sizes(split) for part in dataset.parts} if self._weights else {}
        if self._weights and units:
            raise UserError("the weights of a mix are for single samples, not for groups or pairs; leave them out.")
        if canonical_nodes is None:
            # The samples of a larger unit may lie in any shard, whatever its lane.
            canonical_nodes = 1
            if self._units.unit_size == 1:
                canonical_nodes = default_canonical_nodes(self._units.per_shard, global_batch_size)
            if self._weights:
                canonical_nodes = lanes_that_fit(canonical_nodes, self._parts)
        self._remote_bytes = [shard.num_bytes for shard in dataset.shards(split) if dataset.owner(shard)[0].remote]
        self._remote = dataset.remote if images else None
        self._global_batch_size = global_batch_size
        self._num_threads = num_threads
        self._prefetch_batches = prefetch_batches
        self._samples_seen = 0
        self._cut(canonical_nodes)
        self._batches_per_read = max(1, _READ_IMAGES // self._plan.local_batch_size)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.epoch_size = self._plan.epoch_size
        self.num_left_out = self._plan.num_left_out

    @property
    def samples_seen(self) -> int:
        """Samples of all ranks up to and including the last yielded batch, without prefetched ones.

        Set it before iterating to continue from there.
        """
        return self._samples_seen

    @samples_seen.setter
    def samples_seen(self, value: int) -> None:
        self._plan.check(value)
        self._samples_seen = value

    def state_dict(self) -> dict[str, int]:
        """The whole state of the loader, the same on every rank."""
        return {"samples_seen": self._samples_seen, "canonical_nodes": self.canonical_nodes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from a saved state, whatever its world size and threads, and in its order.

        Raises:
            UserError: A state from a run with another global batch size, or with other canonical nodes than were given.
        """
        nodes = state.get("canonical_nodes", 1)  # States of older releases have one lane.
        if self._given_nodes not in (None, nodes):
            raise UserError(
                f"canonical_nodes was {nodes} when the run was started and is {self._given_nodes} now; give the same, "
                "or leave it out."
            )
        if nodes != self.canonical_nodes:
            self._cut(nodes)
        self.samples_seen = state["samples_seen"]

    def _cut(self, canonical_nodes: int) -> None:
        """Plans the batches of an order with this many lanes."""
        rank, world_size, local_world_size = self._ranks
        self.canonical_nodes = canonical_nodes
        self._plan = self._plan_of(canonical_nodes, rank, world_size)
        if self._remote and self._remote_bytes:
            num_shards, advice = len(self._remote_bytes), "copy the data set here"
            if self._units.unit_size == 1:
                num_shards = self._plan.num_shards_in_turn(rank - rank % local_world_size, local_world_size)
                advice = f"lower canonical_nodes ({canonical_nodes})" if canonical_nodes > 1 else advice
            self._remote.check_room(min(sum(self._remote_bytes), num_shards * max(self._remote_bytes)), advice)

    def _plan_of(self, canonical_nodes: int, rank: int, world_size: int) -> BatchPlan:
        if self._weights:
            orders = mixed_orders(self._parts, self._seed, canonical_nodes)
            return MixedPlan(orders, self._weights, self._global_batch_size, rank, world_size)
        order = EpochOrder(self._units.per_shard, self._seed, num_lanes=canonical_nodes)
        return BatchPlan(order, self._global_batch_size, rank, world_size, self._units.unit_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yields batches without end.

        Raises:
            UserError: A damaged shard or image.
            RuntimeError: ``samples_seen`` was changed, or a second iterator was used, while this one was in use.
        """
        expected = self._samples_seen
        num_ahead = max(self._num_threads, self._prefetch_batches // self._batches_per_read)
        with closing(_one_by_one(self._read, self._together(), self._num_threads, num_ahead)) as batches:
            for batch in batches:
                if self._samples_seen != expected:
                    raise RuntimeError("the loader was moved while it was being iterated; start a new iteration")
                expected += self._global_batch_size
                self._samples_seen = expected
                yield batch

    def _together(self) -> Iterator[list[Share]]:
        # Only within an epoch: the next may repeat an image, which is decoded by then.
        for _, shares in itertools.groupby(self._shares(), lambda share: share.epoch):
            while together := list(itertools.islice(shares, self._batches_per_read)):
                yield together

    def _shares(self) -> Iterator[Share]:
        # Plans in the consumer's thread: threads that plan two blocks at a time would evict each other's cache.
        position, announced = self._samples_seen, set()
        while True:
            if self._remote:
                here = self._plan.blocks_at(position)
                if new := here - announced:
                    self._read.expect(self._plan.shards_from(sorted(new)).tolist())
                announced = here
            epoch, units = self._plan.batch(position)
            rows, labels = self._units.draw(units, epoch)
            yield Share(rows, epoch, self._plan.first_slot, labels)
            position += self._global_batch_size


def evaluation_batches(
    dataset: Dataset,
    split: str,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    limit: int | None = None,
    num_threads: int = 2,
    fields: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Yields the samples of a split in sequence, each exactly once over all ranks, none dropped.

    Args:
        dataset: Where the samples are.
        split: Which of its splits.
        batch_size: Samples of a batch on one rank; the last batch may be shorter.
        rank: This process, from 0. Each takes neighboring batches, in the order of ranks.
        world_size: How many processes there are.
        limit: Take only the first ``limit`` samples of the split.
        num_threads: As in ``TrainLoader``.
        fields: Label fields to load; all when None.

    Returns:
        An iterator of ``Batch``; closing it ends its threads.

    Raises:
        UserError: A split without samples, a field that isn't there, or a size below 1.
    """
    _check_at_least(0, "num_threads", num_threads)
    num_samples = dataset.num_samples(split)
    if limit is not None:
        _check_at_least(1, "limit", limit)
        num_samples = min(limit, num_samples)
    read = BatchReader(dataset, split, fields)
    batches = evaluation_rows(num_samples, batch_size, rank, world_size)
    ends = np.cumsum(dataset.shard_sizes(split))

    def shares() -> Iterator[Share]:
        last = -1
        for rows in batches:
            shard = int(np.searchsorted(ends, rows[-1], side="right"))
            if shard != last:
                read.expect(range(shard, min(shard + 2, len(ends))))
            last = shard
            yield Share(rows)

    return _one_by_one(read, ([share] for share in shares()), num_threads, num_ahead=2 * num_threads)


def _one_by_one(
    read: BatchReader, requests: Iterable[list[Share]], num_threads: int, num_ahead: int
) -> Generator[Batch]:
    """Yields the batches of each request, in order, with up to ``num_ahead`` requests ahead in threads."""
    with closing(_in_order(read, requests, num_threads, num_ahead)) as reads:
        for batches, error in reads:
            yield from batches
            if error:
                raise error


def _in_order(
    load: Callable[[RequestT], ResultT], requests: Iterable[RequestT], num_threads: int, num_ahead: int
) -> Generator[ResultT]:
    """Yields ``load(request)`` for each request, in order, with up to ``num_ahead`` of them ahead in threads."""
    if num_threads == 0:
        yield from map(load, requests)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="shards-loader")
    pending: deque[Future[ResultT]] = deque()
    try:
        for request in requests:
            pending.append(pool.submit(load, request))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # The garbage collector may run this in a thread of the pool, which cannot wait for itself. Each thread ends
        # after its current batch.
        pool.shutdown(wait=False, cancel_futures=True)


def _check_at_least(minimum: int, name: str, value: int) -> None:
    if value < minimum:
        raise UserError(f"{name} must be at least {minimum}, not {value}.")
