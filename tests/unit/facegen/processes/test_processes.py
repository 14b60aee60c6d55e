"""Processes that were launched and processes that joined."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from facegen.processes import group as processes
from facegen.processes.preemption import Preempted, StopFlag
from shards.base.errors import UserError


def pretend(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    default = {"num_processes": 1, "mixed_precision": "no", "native_amp": False, "device": SimpleNamespace(type="cpu")}
    monkeypatch.setattr(processes, "Accelerator", lambda **options: SimpleNamespace(**default | facts))


def test_processes_that_would_train_separately_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    pretend(monkeypatch, num_processes=2)
    assert processes.make_accelerator().num_processes == 2
    pretend(monkeypatch, num_processes=1)
    with pytest.raises(UserError, match="2 processes were launched, but accelerate joined 1"):
        processes.make_accelerator()


def test_a_precision_that_would_silently_be_float32_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, mixed_precision="fp16")
    with pytest.raises(UserError, match="--mixed_precision fp16 does not work on a cpu device"):
        processes.make_accelerator()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("[/build/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:7. This is typical."),
            "Connection closed by peer [::1]:7",
        ),
        (
            RuntimeError("[/third_party/gloo/gloo/x.cc:78] Timed out waiting 3000ms for recv operation to complete"),
            "Timed out waiting 3000ms for recv operation to complete",
        ),
        (
            distributed.DistBackendError("NCCL error: remote process exited\nLast error: x"),
            "NCCL error: remote process exited",
        ),
        (
            RuntimeError("Application timeout caused pair closure"),
            "Application timeout caused pair closure",
        ),
        (RuntimeError("shapes do not fit in the igloo/model"), None),
    ],
)
def test_errors_that_mean_a_lost_process_are_recognized(error: RuntimeError, reason: str | None) -> None:
    assert processes.lost_process(error) == reason


def test_buffers_are_not_sent_before_every_forward(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent = []
    monkeypatch.setattr(DistributedDataParallel, "_sync_buffers", lambda wrapped: sent.append(wrapped))
    accelerator: Any = SimpleNamespace(prepare_model=DistributedDataParallel)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        network = torch.nn.BatchNorm1d(2)
        DistributedDataParallel(network)(torch.randn(4, 2))
        assert len(sent) == 1  # What DDP would do.
        processes.wrap(network, accelerator)(torch.randn(4, 2))
        assert len(sent) == 1
    finally:
        distributed.destroy_process_group()


def test_a_signal_during_a_vote_counts_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Work:
        def wait(self) -> None:
            if len(told) == 1:
                os.kill(os.getpid(), signal.SIGUSR1)  # Too late for this vote: no other process knows.

    def all_reduce(flag: torch.Tensor, op: object, async_op: bool) -> Work:
        told.append(bool(flag.item()))
        return Work()

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    with StopFlag() as stop:
        batches = stop.watch([1, 2], num_votes=2)
        assert next(batches) == 1
        with pytest.raises(Preempted):
            next(batches)
    assert told == [True, False]  # Votes to continue.


def _stop() -> None:
    sys.exit(2)


@pytest.mark.parametrize(("main", "code"), [(lambda: None, 0), (lambda: 143, 143), (_stop, 2), (lambda: 1 // 0, 1)])
def test_one_of_several_processes_exits_at_once_with_its_own_code(
    main: Callable[[], int | None], code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    pid = os.fork()
    if pid == 0:
        # A normal exit would wait for this thread.
        threading.Thread(target=time.sleep, args=(60,)).start()
        print("done", end="")
        processes.run_process(main)
    started_sec = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert time.monotonic() - started_sec < 30
    out, err = capfd.readouterr()
    assert out == "done"
    assert ("ZeroDivisionError" in err) == (code == 1)


def test_a_single_process_exits_as_any_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as end:
        processes.run_process(lambda: 3)
    assert end.value.code == 3
