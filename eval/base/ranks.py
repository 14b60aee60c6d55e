"""Brings together what the ranks have accumulated."""

from __future__ import annotations

from functools import reduce
from typing import Protocol, Self, TypeVar

from accelerate.utils import gather_object


class Mergeable(Protocol):
    """An accumulator: two of them, over different samples, make one over all of these."""

    def merge(self, other: Self) -> Self:
        """The accumulator of both sets of samples."""
        ...


AccumulatorT = TypeVar("AccumulatorT", bound=Mergeable)


def merge_ranks(accumulator: AccumulatorT) -> AccumulatorT:
    """The accumulator over the samples of all ranks, on every rank; ranks are merged in order, so all get the same."""
    return reduce(lambda left, right: left.merge(right), gather_object([accumulator]))
