"""Calls a function in threads, ahead of whoever takes the results: places that answer slowly are asked together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def ahead(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_threads: int, num_ahead: int | None = None
) -> Generator[Callable[[], ResultT], None, None]:
    """Calls a function of each item.

    Args:
        function: What to call; safe in threads.
        items: Taken one by one, at most ``num_ahead`` before their result is.
        num_threads: How many calls run at once; 0 calls each when its result is taken, in the thread that takes it.
        num_ahead: How many results may wait, those of the running calls included; ``num_threads`` when not given. With
            more, one slow call holds up no other.

    Yields:
        For each item, in order, what returns the function's result or raises its error. Closing the generator drops
        what has not begun.
    """
    if not num_threads:
        yield from (partial(function, item) for item in items)
        return
    pool, pending = ThreadPoolExecutor(num_threads, thread_name_prefix="ahead"), deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == (num_ahead or num_threads):
                yield pending.popleft().result
        while pending:
            yield pending.popleft().result
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
