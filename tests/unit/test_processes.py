"""Processes that were launched and processes that joined."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from facegen import processes
from shards.cli import UserError


def pretend(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    default = {"num_processes": 1, "mixed_precision": "no", "native_amp": False, "device": SimpleNamespace(type="cpu")}
    monkeypatch.setattr(processes, "Accelerator", lambda **options: SimpleNamespace(**default | facts))


def test_processes_that_would_train_as_several_single_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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
