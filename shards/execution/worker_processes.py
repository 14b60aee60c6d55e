"""A pool of processes that do tasks: safe against Ctrl-C, killed workers and a killed parent."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shards.base.operating_system import ignore_interrupts, interrupts_blocked
from shards.execution.executor import ResultT, TaskT, Work, WorkerDied

_POLL_SEC = 0.2
_TASKS_PER_WORKER = 2
"""Submitted at a time: no worker waits for its next task, and the rest need not exist yet."""


@dataclass(frozen=True)
class WorkerProcesses:
    """Does tasks in several processes on this machine."""

    num_workers: int

    def run(
        self, work: Work[TaskT, ResultT], tasks: Iterable[TaskT], on_items: Callable[[int], object]
    ) -> Generator[ResultT, None, None]:
        """As ``Executor.run``."""
        return _run(work, tasks, self.num_workers, on_items)

    def __str__(self) -> str:
        return f"workers: {self.num_workers}"


def _run(
    work: Work[TaskT, ResultT], tasks: Iterable[TaskT], num_workers: int, on_items: Callable[[int], object]
) -> Generator[ResultT, None, None]:
    # Spawn, because forking a process that has threads (progress bar, libraries) can deadlock.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (work, counter))
    waiting = iter(tasks)
    pending: set[Future[ResultT]] = set()
    num_reported = 0
    try:
        first = list(itertools.islice(waiting, num_workers * _TASKS_PER_WORKER))
        with _interrupts_held():  # The workers start with the first task.
            pending |= {pool.submit(_do_in_worker, task) for task in first}
        while pending:
            done, pending = wait(pending, _POLL_SEC, FIRST_COMPLETED)
            num_done = counter.get_obj().value  # Without its lock, which a killed worker may hold.
            on_items(num_done - num_reported)
            num_reported = num_done
            for future in done:
                yield future.result()
            pending |= {pool.submit(_do_in_worker, task) for task in itertools.islice(waiting, len(done))}
    except BrokenProcessPool:
        raise WorkerDied from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delays Ctrl-C until the end of the block; processes started in the block ignore it for good.

    Ctrl-C reaches the whole process group, but the parent alone decides what it means; and an interrupt while the pool
    starts would leave workers that nobody waits for. Child processes inherit the signal mask. The mask does not protect
    this process, whose other threads may take the signal: the handler does.
    """
    held: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    replaces = threading.current_thread() is threading.main_thread() and callable(previous)
    if replaces:
        signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        with interrupts_blocked():
            yield
    finally:
        if replaces:
            signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


def _start_worker(work: Work[Any, Any], counter: Any) -> None:
    global _work, _counter
    _work, _counter = work, counter
    ignore_interrupts()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent is killed: it must not write beside a resumed command."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_in_worker(task: Any) -> Any:
    return _work(task, _count_item)


def _count_item() -> None:
    with _counter.get_lock():
        _counter.value += 1
