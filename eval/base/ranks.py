"""Merges the accumulators of all ranks."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from torch import distributed


class Mergeable(Protocol):
    """An accumulator over some samples; two of them, over different samples, merge into one."""

    def merge(self, other: Self) -> Self:
        """Returns the accumulator over both sets of samples."""
        ...


AccumulatorT = TypeVar("AccumulatorT", bound=Mergeable)


def merge_ranks(accumulator: AccumulatorT) -> AccumulatorT:
    """Returns the accumulator over all ranks on the main one, and their own on the others.

    The main one takes one rank's at a time, in order: so sums are always the same, and it holds no more than two
    accumulators and the sum, whatever the number of ranks.
    """
    if not distributed.is_initialized():
        return accumulator
    if distributed.get_rank() != 0:
        distributed.send_object_list([accumulator], dst=0)
        return accumulator
    for rank in range(1, distributed.get_world_size()):
        received: list[Any] = [None]
        distributed.recv_object_list(received, src=rank)
        accumulator = accumulator.merge(received[0])
    return accumulator
