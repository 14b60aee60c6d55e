"""Executors: tasks are taken when there is room, each is done once, and what stops the work is one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from shards.base.errors import UserError
from shards.execution.dispatch import choose_executor, run_tasks
from shards.execution.executor import InProcess, OnItem
from shards.execution.ray_cluster import RayCluster
from shards.execution.worker_processes import WorkerProcesses


def double(task: int, on_item: OnItem) -> int:
    on_item()
    return 2 * task


def fail(error: Exception, task: int, on_item: OnItem) -> int:
    raise error


def die(task: int, on_item: OnItem) -> int:
    os._exit(1)


@pytest.mark.parametrize("executor", [InProcess(), WorkerProcesses(2)])
def test_tasks_are_taken_as_there_is_room_for_them(executor: InProcess | WorkerProcesses) -> None:
    taken: list[int] = []
    counts: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    results = run_tasks(executor, double, tasks(), counts.append, "OUT")
    first = next(results)
    assert len(taken) <= 4
    assert sorted([first, *results]) == list(range(0, 80, 2))
    assert sum(counts) in (39, 40) if isinstance(executor, WorkerProcesses) else sum(counts) == 40


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (die, "a worker process died"),
        (partial(fail, OSError(28, "No space left on device")), "cannot write to OUT .*No space left"),
        (partial(fail, MemoryError()), "out of memory"),
        (partial(fail, UserError("one sentence.")), "one sentence."),
    ],
)
def test_what_stops_the_work_is_one_sentence(work: partial, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(run_tasks(WorkerProcesses(2), work, [1, 2, 3], lambda count: None, "OUT"))


def test_the_options_choose_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.execution.dispatch.num_cores", lambda: 4)
    assert choose_executor(None, num_tasks=9) == WorkerProcesses(4)
    assert choose_executor(3, num_tasks=2) == WorkerProcesses(2)
    assert choose_executor(None, num_tasks=1) == InProcess()
    assert choose_executor(5, num_tasks=1, address="auto") == RayCluster("auto", 5)


def test_a_cluster_without_ray_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.execution.ray_cluster.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    with pytest.raises(UserError, match=r"--address needs ray; install: pip install 'facegen\[tuning\]'"):
        list(run_tasks(RayCluster("auto"), double, [1], lambda count: None, "OUT"))
