"""Runs a packing plan: its shards are written in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from shards.base.errors import UserError
from shards.packing.plan import ShardTask
from shards.packing.shard import ShardJob, ShardResult, write_shard

_POLL_SEC = 0.2


def run_tasks(
    job: ShardJob, tasks: list[ShardTask], workers: int, on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    """Writes shards, in this process or in several, and yields each result when its shard is done.

    Args:
        job: Source and image options.
        tasks: The shards to write.
        workers: Number of processes; 1 works in this one.
        on_images: Called with the number of items done since the last call.

    Raises:
        UserError: The disk is full or not writable, or a worker died.
    """
    try:
        if workers == 1 or len(tasks) == 1:
            for task in tasks:
                yield write_shard(job, task, lambda: on_images(1))
        else:
            yield from _run_in_processes(job, tasks, min(workers, len(tasks)), on_images)
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?); run the same command again, perhaps with fewer --workers."
        ) from None
    except OSError as error:
        raise UserError(f"cannot write to {job.root} ({error}); mend that and run the same command again.") from None


def _run_in_processes(
    job: ShardJob, tasks: list[ShardTask], workers: int, on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    # Spawn, because forking a process that has threads (progress bar, libraries) can deadlock.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (job, counter))
    num_reported = 0
    try:
        with _interrupts_held():  # the workers start with the first task
            pending: set[Future[ShardResult]] = {pool.submit(_write_shard_in_worker, task) for task in tasks}
        while pending:
            done, pending = wait(pending, _POLL_SEC, FIRST_COMPLETED)
            num_done = counter.get_obj().value  # Without its lock, which a worker that was killed may hold.
            on_images(num_done - num_reported)
            num_reported = num_done
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block, and makes processes that start in it deaf to it for good.

    Ctrl-C reaches the whole process group, but the parent alone decides what it means; and an interrupt in the midst of
    starting the pool would leave workers that nobody waits for. The mask is what child processes inherit. It does not
    protect this process, where any other thread may take the signal: that is what the handler is for.
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


def _start_worker(job: ShardJob, counter: Any) -> None:
    global _worker_job, _worker_counter
    _worker_job, _worker_counter = job, counter
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent was killed: it would otherwise go on writing beside a resumed packing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_shard_in_worker(task: ShardTask) -> ShardResult:
    return write_shard(_worker_job, task, _count_image)


def _count_image() -> None:
    with _worker_counter.get_lock():
        _worker_counter.value += 1
