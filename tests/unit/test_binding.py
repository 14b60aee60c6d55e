"""Each process of a machine computes on cores of its own."""

from __future__ import annotations

import os

import pytest

from facegen import binding
from facegen.binding import bind_to_cores, share_of_cores

MACHINE = ("a", (0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("places", "shares"),
    [
        ([MACHINE], [(0, 1, 2, 3, 4)]),
        ([MACHINE] * 2, [(0, 1), (2, 3)]),
        ([MACHINE] * 5, [(0,), (1,), (2,), (3,), (4,)]),
        ([MACHINE] * 6, [()] * 6),
        ([("a", (0, 1)), ("b", (0, 1)), ("a", (0, 1))], [(0,), (0, 1), (1,)]),
        ([("a", (0, 1)), ("a", (2, 3))], [(0, 1), (2, 3)]),  # A scheduler has given each its own.
    ],
)
def test_cores_are_shared_out_among_those_that_would_share_them(places: list, shares: list) -> None:
    assert [share_of_cores(places, rank) for rank in range(len(places))] == shares


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
@pytest.mark.parametrize(("threads", "bound"), [(1, True), (2, True), (3, False)])
def test_a_process_is_bound_only_where_its_threads_have_a_core_each(
    monkeypatch: pytest.MonkeyPatch, threads: int, bound: bool
) -> None:
    calls = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6, 7})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: calls.append((pid, cores)))
    monkeypatch.setattr(binding, "gather_object", lambda places: places * 2)
    monkeypatch.setattr(binding.torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(binding.torch, "get_num_threads", lambda: threads)
    bind_to_cores()
    assert calls == ([(0, (6, 7))] if bound else [])
