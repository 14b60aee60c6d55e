"""A pool of processes that write shards: safe against Ctrl-C, killed workers and a killed parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from shards.packing.plan import ShardTask
from shards.packing.shard import ShardResult
from shards.packing.workspace import ShardWork

_POLL_SEC = 0.2

WorkerDied = BrokenProcessPool
"""Raised when a worker process was killed."""


def run_in_processes(
    work: ShardWork, tasks: Sequence[ShardTask], num_workers: int, on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    """Writes shards in processes of this machine; arguments and errors as ``shards.packing.execution.Executor.run``."""
    # Spawn, because forking a process that has threads (progress bar, libraries) can deadlock.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (work, counter))
    num_reported = 0
    try:
        with _interrupts_held():  # The workers start with the first task.
            pending: set[Future[ShardResult]] = {pool.submit(_write_in_worker, task) for task in tasks}
        while pending:
            done, pending = wait(pending, _POLL_SEC, FIRST_COMPLETED)
            num_done = counter.get_obj().value  # Without its lock, which a killed worker may hold.
            on_images(num_done - num_reported)
            num_reported = num_done
            for future in done:
                yield future.result()
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
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if replaces:
            signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


def _start_worker(work: ShardWork, counter: Any) -> None:
    global _work, _counter
    _work, _counter = work, counter
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent is killed: it must not write beside a resumed packing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_in_worker(task: ShardTask) -> ShardResult:
    return _work(task, _count_image)


def _count_image() -> None:
    with _counter.get_lock():
        _counter.value += 1
