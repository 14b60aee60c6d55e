"""Merges the accumulators of all ranks."""

from __future__ import annotations

from functools import reduce
from typing import Protocol, Self, TypeVar

from accelerate.utils import gather_object


class Mergeable(Protocol):
    """An accumulator over some samples; two of them, over different samples, merge into one."""

    def merge(self, other: Self) -> Self:
        """Returns the accumulator over both sets of samples."""
        ...


AccumulatorT = TypeVar("AccumulatorT", bound=Mergeable)


def merge_ranks(accumulator: AccumulatorT) -> AccumulatorT:
    """Returns the accumulator over all ranks, on every rank; they merge in the same order, so all get the same."""
    return reduce(lambda left, right: left.merge(right), gather_object([accumulator]))
