"""Chooses an executor for a command's options, and runs it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from shards.base.errors import UserError
from shards.base.places import num_cores
from shards.execution.executor import Executor, InProcess, ResultT, TaskT, Work, WorkerDied
from shards.execution.ray_cluster import RayCluster
from shards.execution.worker_processes import WorkerProcesses


def choose_executor(num_workers: int | None, num_tasks: int, address: str | None = None) -> Executor:
    """The executor for a command's options.

    Args:
        num_workers: As the user said; None for as many as there are cores.
        num_tasks: How many tasks there are.
        address: Of a Ray cluster; None for this machine.
    """
    if address is not None:
        return RayCluster(address, num_workers)
    workers = min(num_workers or num_cores(), num_tasks)
    return WorkerProcesses(workers) if workers > 1 else InProcess()


def run_tasks(
    executor: Executor,
    work: Work[TaskT, ResultT],
    tasks: Iterable[TaskT],
    on_items: Callable[[int], object],
    output: object,
) -> Generator[ResultT, None, None]:
    """Runs an executor; what stops it becomes one sentence.

    Args:
        executor: Does the tasks.
        work: As ``Executor.run``.
        tasks: As ``Executor.run``.
        on_items: As ``Executor.run``.
        output: Where the work writes, for the message.

    Raises:
        UserError: The disk is full or not writable, or a worker died.
    """
    try:
        yield from executor.run(work, tasks, on_items)
    except WorkerDied:
        raise UserError(
            "a worker process died (out of memory?); rerun the command, perhaps with fewer --workers."
        ) from None
    except MemoryError:
        raise UserError("out of memory; rerun the command with fewer --workers.") from None
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error}); fix this, then rerun the command.") from None
