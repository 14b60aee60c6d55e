"""SIGTERM and SIGUSR1 ask a run to save and stop; schedulers send them before they take a machine away."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar, overload

import torch

from facegen.processes.group import Agreement
from shards.base.operating_system import STOP_SIGNALS

EXIT_PREEMPTED = 143
"""128 + SIGTERM, what a shell reports for a process that SIGTERM ended."""

BatchT = TypeVar("BatchT")
ReadyT = TypeVar("ReadyT")


class Preempted(Exception):
    """Some process was asked to stop. Every process raises it at the same batch, so that all can save together."""


class _Interrupted(BaseException):
    """A signal came while this process waited for data. A BaseException, so that retry loops cannot swallow it."""


class StopFlag:
    """Whether any process of the group was asked to stop; ``watch`` finds out between batches.

    Signals are handled inside its ``with`` block. Python lets only the main thread handle them; a run in another thread
    is never asked.

    Attributes:
        requested: Whether this process was asked, or knows that another one was.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Takes the device on which the processes exchange their votes."""
        self.requested = False
        self._device = torch.device(device)
        self._is_waiting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        is_main = threading.current_thread() is threading.main_thread()
        self._previous = {number: signal.signal(number, self._request) for number in STOP_SIGNALS if is_main}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @overload
    def watch(self, batches: Iterable[BatchT], *, num_votes: int | None = None) -> Iterator[BatchT]: ...

    @overload
    def watch(
        self, batches: Iterable[BatchT], prepare: Callable[[BatchT], ReadyT], *, num_votes: int | None = None
    ) -> Iterator[ReadyT]: ...

    def watch(
        self, batches: Iterable[Any], prepare: Callable[[Any], Any] | None = None, *, num_votes: int | None = None
    ) -> Iterator[Any]:
        """Yields batches until any process is asked to stop.

        The processes vote once a batch. A process that waits for a batch when it is asked stops waiting and votes, as a
        server that does not answer can withhold data for longer than a launcher waits for a process to end.

        Args:
            batches: This process's batches.
            prepare: Turns a batch into what is yielded, while the other processes answer.
            num_votes: Votes to take, the same on every process and at least as many as any has batches; None for
                batches without end.

        Raises:
            Preempted: At the same vote on every process.
        """
        iterator = iter(batches)
        for _ in itertools.count() if num_votes is None else range(num_votes):
            batch = self._next(iterator)
            vote = Agreement([not self.requested], self._device)
            ready = batch if batch is None or prepare is None else prepare(batch)
            if not all(vote.read()):
                self.requested = True
                raise Preempted
            if ready is not None:
                yield ready

    def _next(self, batches: Iterator[BatchT]) -> BatchT | None:
        """The next batch; None at the end of them, and as soon as this process is asked to stop."""
        try:
            try:
                self._is_waiting = True
                return None if self.requested else next(batches, None)
            finally:
                self._is_waiting = False  # The signal may come just before this.
        except _Interrupted:
            return None

    def _request(self, number: int, frame: FrameType | None) -> None:
        # A signal that comes after this process's vote counts in the next one.
        self.requested = True
        if self._is_waiting:
            self._is_waiting = False
            raise _Interrupted


def ignore_stop() -> None:
    """Lets this process end with its own exit code, whatever signals come."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
