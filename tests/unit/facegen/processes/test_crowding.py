"""Beside other programs: threads that sleep while they wait, and a run that says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from facegen.processes import crowding
from facegen.processes.crowding import CoreWait


@pytest.mark.parametrize("room", ["shards", "facegen", "eval", "tuning"])
@pytest.mark.parametrize(
    ("given", "used"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")]
)
def test_every_room_lets_waiting_threads_sleep_before_torch_starts_them(
    room: str, given: dict[str, str], used: str
) -> None:
    code = f"import sys, os, {room}; print(os.environ.get('GOMP_SPINCOUNT', ''), 'torch' in sys.modules)"
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*([used] if used else []), "False"]


def counted(monkeypatch: pytest.MonkeyPatch, running: int, waiting: int, num_threads: int) -> CoreWait:
    times = iter([(100, 100), (100 + running, 100 + waiting)])
    monkeypatch.setattr(crowding, "_scheduled_ns", lambda: next(times))
    monkeypatch.setattr("torch.get_num_threads", lambda: num_threads)
    return CoreWait()


@pytest.mark.parametrize(("num_threads", "waiting", "advised"), [(4, 400, 2), (2, 400, 1), (2, 900, 1), (16, 300, 11)])
def test_a_crowded_process_says_how_much_it_waits_and_what_to_set(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, waiting: int, advised: int
) -> None:
    advice = counted(monkeypatch, 1000 - waiting, waiting, num_threads).advice()
    assert advice and f"wait {waiting / 10:.0f} % of their time" in advice
    assert f"OMP_NUM_THREADS={advised} instead of {num_threads} threads" in advice


def test_one_thread_cannot_become_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    advice = counted(monkeypatch, running=500, waiting=500, num_threads=1).advice()
    assert advice and "OMP_NUM_THREADS" not in advice


def test_a_process_alone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(monkeypatch, running=960, waiting=40, num_threads=4).advice() is None


def test_systems_that_count_nothing_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(monkeypatch, running=0, waiting=0, num_threads=4).advice() is None


@pytest.mark.skipif(not crowding._TASKS.exists(), reason="only Linux counts")
def test_running_is_counted() -> None:
    before = crowding._scheduled_ns()[0]
    sum(range(300_000))
    assert crowding._scheduled_ns()[0] > before
