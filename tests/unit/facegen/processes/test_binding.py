"""Each process of a machine computes on its own cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from facegen.processes import binding
from facegen.processes.binding import bind_to_cores, share_of_cores

MACHINE = ("a", (0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("places", "shares"),
    [
        ([MACHINE], [(0, 1, 2, 3, 4)]),
        ([MACHINE] * 2, [(0, 1), (2, 3)]),
        ([MACHINE] * 5, [(0,), (1,), (2,), (3,), (4,)]),
        ([MACHINE] * 6, [()] * 6),
        ([("a", (0, 1)), ("b", (0, 1)), ("a", (0, 1))], [(0,), (0, 1), (1,)]),
        ([("a", (0, 1)), ("a", (2, 3))], [(0, 1), (2, 3)]),  # A scheduler has given each process its own.
    ],
)
def test_processes_with_the_same_cores_share_them_equally(places: list, shares: list) -> None:
    assert [share_of_cores(places, rank) for rank in range(len(places))] == shares


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
@pytest.mark.parametrize(("threads", "num_processes", "cores"), [(1, 2, (6, 7)), (3, 2, (6, 7)), (2, 8, None)])
def test_a_process_is_bound_to_its_cores_with_as_many_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, num_processes: int, cores: tuple[int, ...] | None
) -> None:
    calls = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6, 7})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: calls.append((pid, cores)))
    monkeypatch.setattr(binding, "gather_object", lambda places: places * num_processes)
    monkeypatch.setattr(binding.torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(binding.torch, "get_num_threads", lambda: threads)
    told = []
    monkeypatch.setattr(binding.torch, "set_num_threads", told.append)
    bind_to_cores()
    assert calls == ([(0, cores)] if cores else [])
    assert told == [min(threads, len(cores or (0,)))]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_threads_are_limited_where_the_launcher_counted_the_whole_machine() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import torch; torch.set_num_threads(3)\n"
        "from facegen.processes.group import make_accelerator; make_accelerator(force_cpu=True)\n"
        "print(torch.get_num_threads())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "1"
