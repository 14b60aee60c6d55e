"""Tasks on a Ray cluster: Ray starts them where there is room, and again elsewhere when a machine is lost.

Ray keeps worker processes, so what a worker loads once, such as a face detector, serves all its tasks. The work lies
once in Ray's object store; only as many tasks as fit into the cluster exist at a time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from shards.base.errors import UserError
from shards.execution.executor import ResultT, TaskT, Work, WorkerDied

_POLL_SEC = 1.0
_TASKS_PER_CPU = 2
"""Submitted at a time: no CPU waits for its next task, and a cluster that can grow sees that there is more."""
_RETRIES = 3
"""Of a task whose worker or machine was lost."""


@dataclass(frozen=True)
class RayCluster:
    """Does tasks on the machines of a Ray cluster; they need the same packages and see the same paths.

    Attributes:
        address: ``auto``, or host and port of the head.
        num_tasks: Most tasks at a time; None fills the cluster's CPUs.
    """

    address: str
    num_tasks: int | None = None

    def run(
        self, work: Work[TaskT, ResultT], tasks: Iterable[TaskT], on_items: Callable[[int], object]
    ) -> Generator[ResultT, None, None]:
        """As ``Executor.run``.

        Raises:
            UserError: Ray is not installed, or there is no cluster at the address.
        """
        return _run(work, tasks, self.address, self.num_tasks, on_items)

    def __str__(self) -> str:
        return f"Ray cluster {self.address}"


def _run(
    work: Work[TaskT, ResultT],
    tasks: Iterable[TaskT],
    address: str,
    num_tasks: int | None,
    on_items: Callable[[int], object],
) -> Generator[ResultT, None, None]:
    if find_spec("ray") is None:
        raise UserError("--address needs ray; install: pip install 'facegen[tuning]'")
    # Imported here: Ray is an extra, and takes seconds to import.
    import ray

    from shards.execution.ray_connection import connected

    with connected(address, num_cpus=None):
        shared, folder = ray.put(work), os.getcwd()
        do = ray.remote(_do).options(num_cpus=1, max_retries=_RETRIES)
        waiting, pending = iter(tasks), set()
        try:
            while True:
                room = (num_tasks or _room()) - len(pending)
                pending |= {do.remote(shared, task, folder) for task in itertools.islice(waiting, max(0, room))}
                if not pending:
                    return
                done, rest = ray.wait(list(pending), timeout=_POLL_SEC)
                pending = set(rest)
                for reference in done:
                    num_items, result = _outcome(reference)
                    on_items(num_items)
                    yield result
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)


def _room() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1))) * _TASKS_PER_CPU


def _do(work: Work[Any, Any], task: Any, folder: str) -> tuple[int, Any]:
    """One task, in a worker: how many items it had, and its result."""
    with suppress(OSError):  # So that relative paths mean what they mean to the user; others need no such folder.
        os.chdir(folder)
    num_items = itertools.count()
    result = work(task, lambda: next(num_items))
    return next(num_items), result


def _outcome(reference: Any) -> Any:
    """What a task returned; its error, if it failed.

    Raises:
        UserError: A worker lacks this program, or the task's own.
        WorkerDied: Its workers were lost, one after the other.
    """
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ModuleNotFoundError):
            raise UserError(
                f"a machine of the cluster lacks the module {cause.name}; install the same facegen on all of them."
            ) from None
        raise cause from None
    except (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.ObjectLostError,
    ):
        raise WorkerDied from None
