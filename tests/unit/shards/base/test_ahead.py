"""Calls in threads, ahead of their results: order, errors, and how far ahead."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from shards.base.ahead import ahead


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_results_come_in_order_and_errors_where_they_belong(num_threads: int) -> None:
    def halved(number: int) -> float:
        if number == 4:
            raise KeyError(number)
        return number / 2

    results = list(ahead(halved, range(8), num_threads))
    assert [result() for number, result in enumerate(results) if number != 4] == [0, 0.5, 1, 1.5, 2.5, 3, 3.5]
    with pytest.raises(KeyError):
        results[4]()


def test_without_threads_nothing_is_called_before_its_result_is_taken() -> None:
    called: list[int] = []
    results = ahead(called.append, range(3), 0)
    next(results)
    assert not called
    next(results)()
    assert called == [1]


def test_calls_run_together_and_no_further_ahead() -> None:
    together, taken = threading.Barrier(4, timeout=10), []

    def items() -> object:
        for number in range(12):
            taken.append(number)
            yield number

    results = ahead(lambda number: together.wait(), items(), 4)
    for number, result in enumerate(results):
        assert len(taken) <= number + 4
        result()


def test_closing_drops_what_has_not_begun() -> None:
    called, release = [], threading.Event()

    def wait(number: int) -> None:
        called.append(number)
        release.wait(10)

    with closing(ahead(wait, range(100), 2)) as results:
        next(results)
        release.set()
    assert len(called) <= 3
