"""Where independent tasks are done: an executor runs the work, in this process or elsewhere.

The outcome of a task must not depend on who does it, so an executor may do tasks in any order, in any number of
processes that see the same folders, and again where one was lost. To add one, implement ``Executor`` in a file of its
own and pass it to ``shards.packing.pack.pack_source``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
OnItem = Callable[[], object]
"""Called after each item of a task."""
Work = Callable[[TaskT, OnItem], ResultT]
"""Does one task."""


class WorkerDied(RuntimeError):
    """A process or machine that did the work was lost, and so were those that tried again."""


class Executor(Protocol):
    """Does tasks. Its ``str`` says how, for the summary that packing prints."""

    def run(
        self, work: Work[TaskT, ResultT], tasks: Iterable[TaskT], on_items: Callable[[int], object]
    ) -> Generator[ResultT, None, None]:
        """Yields each result when its task is done; closing the generator stops the work.

        Args:
            work: Does one task; picklable. Done more than once, it leaves the same.
            tasks: Picklable, taken when there is room for them: a long list need not exist.
            on_items: Called with the number of items done since the last call.

        Raises:
            OSError: The disk is full or not writable.
            WorkerDied: A process that did the work was killed.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """Does tasks one after the other in this process."""

    def run(
        self, work: Work[TaskT, ResultT], tasks: Iterable[TaskT], on_items: Callable[[int], object]
    ) -> Generator[ResultT, None, None]:
        """As ``Executor.run``."""
        for task in tasks:
            yield work(task, lambda: on_items(1))

    def __str__(self) -> str:
        return "workers: 1"
