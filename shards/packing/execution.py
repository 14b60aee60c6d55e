"""Where the shards of a packing are written: an executor runs the work, in this process or elsewhere.

Shards are independent and their bytes do not depend on who writes them, so an executor may run them in any order and
in any number of processes that see the output folder. To add one, such as for a cluster: implement ``Executor`` in a
file of its own and pass it to ``shards.packing.pack.pack_source``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shards.base.errors import UserError
from shards.packing.plan import ShardTask
from shards.packing.shard import ShardResult
from shards.packing.worker_processes import WorkerDied, run_in_processes
from shards.packing.workspace import ShardWork


class Executor(Protocol):
    """Runs the work of a packing. Its ``str`` says how, for the summary that packing prints."""

    def run(
        self, work: ShardWork, tasks: Sequence[ShardTask], on_images: Callable[[int], object]
    ) -> Generator[ShardResult, None, None]:
        """Writes shards and yields each result when its shard is durable; closing the generator stops the work.

        Args:
            work: Writes one shard; picklable.
            tasks: The shards to write.
            on_images: Called with the number of items done since the last call.

        Raises:
            OSError: The disk is full or not writable.
            WorkerDied: A process that did the work was killed.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """Writes shards one after the other in this process."""

    def run(
        self, work: ShardWork, tasks: Sequence[ShardTask], on_images: Callable[[int], object]
    ) -> Generator[ShardResult, None, None]:
        """As ``Executor.run``."""
        for task in tasks:
            yield work(task, lambda: on_images(1))

    def __str__(self) -> str:
        return "workers: 1"


@dataclass(frozen=True)
class WorkerProcesses:
    """Writes shards in several processes on this machine."""

    num_workers: int

    def run(
        self, work: ShardWork, tasks: Sequence[ShardTask], on_images: Callable[[int], object]
    ) -> Generator[ShardResult, None, None]:
        """As ``Executor.run``."""
        return run_in_processes(work, tasks, self.num_workers, on_images)

    def __str__(self) -> str:
        return f"workers: {self.num_workers}"


def choose_executor(num_workers: int) -> Executor:
    """The executor for a number of workers on this machine."""
    return WorkerProcesses(num_workers) if num_workers > 1 else InProcess()


def run_tasks(
    executor: Executor, work: ShardWork, tasks: Sequence[ShardTask], on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    """Runs an executor; what stops it becomes one sentence.

    Raises:
        UserError: The disk is full or not writable, or a worker died.
    """
    try:
        yield from executor.run(work, tasks, on_images)
    except WorkerDied:
        raise UserError(
            "a worker process died (out of memory?); rerun the command, perhaps with fewer --workers."
        ) from None
    except MemoryError:
        raise UserError("out of memory; rerun the command with fewer --workers.") from None
    except OSError as error:
        raise UserError(f"cannot write to {work.root} ({error}); fix this, then rerun the command.") from None
