"""Full disks cost no checkpoint, and clocks that jump change nothing."""

from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from facegen.options import CheckpointConfig, MonitorConfig
from facegen.processes.failures import SavingFailed
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import RICH, Crash, MakeConfig, assert_equal, checkpoints_of, crash_after, metrics_of, train


@pytest.mark.parametrize("attribute", ["facegen.optimization.state.save_state", "facegen.runs.snapshot.save_module"])
def test_a_disk_that_is_full_ends_training_and_costs_no_checkpoint(
    attribute: str, tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 6, "checkpoint": CheckpointConfig(every_images=32), **RICH}
    whole = train(tiny_config(run=str(tmp_path / "whole"), **options))
    config = tiny_config(**options)

    def fill_disk(trainer: Trainer, *_: Any) -> None:
        if trainer.step == 3:
            monkeypatch.setattr(attribute, no_space)

    with pytest.raises(
        SavingFailed, match="checkpoint at 64 images cannot be written to .* \\(No space left on device"
    ):
        train(config, fill_disk)
    assert checkpoints_of(config) == ["images_000000000032"]
    monkeypatch.undo()
    assert_equal(train(config), whole)


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_when_metrics_are_written(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(checkpoint=CheckpointConfig(every_images=16))
    monkeypatch.setattr("facegen.reporting.monitor.Monitor.scalars", no_space)
    with pytest.raises(UserError, match="cannot write to .*run \\(No space left on device\\); the checkpoints in it"):
        train(config)
    assert checkpoints_of(config) == ["images_000000000016"]


def test_clocks_that_jump_change_nothing(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 12, "checkpoint": CheckpointConfig(every_images=32), **RICH}
    options |= {"monitor": MonitorConfig(log_every_images=16, validate_every_images=64, grid_every_images=64)}
    whole = train(tiny_config(run=str(tmp_path / "whole"), **options))
    jumps, now_sec = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: now_sec() + jumps.choice([-1, 1]) * jumps.uniform(0, 6 * 3600))
    config = tiny_config(**options)
    for step in (5, 11):
        with pytest.raises(Crash):
            train(config, crash_after(step))
        # As if the clock had run backwards: the newest checkpoint has the most images, whatever its date.
        for age, path in enumerate(sorted((Path(config.run) / "checkpoints").iterdir())):
            os.utime(path, (1e9 - age, 1e9 - age))
    assert_equal(train(config), whole)
    lines = [line for line in metrics_of(config) if "train/loss" in line]
    assert [line["images_seen"] // 16 for line in lines] == list(range(1, 13))
    assert all(line["speed/images_per_sec"] > 0 for line in lines if "speed/images_per_sec" in line)
