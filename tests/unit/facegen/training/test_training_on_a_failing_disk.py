"""Training on a disk that fails at each of its changes in turn."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from facegen.options import CheckpointConfig, MonitorConfig
from facegen.processes.failures import TrainingFailed
from failing_disk import fail_at_every_change
from shards.base.errors import UserError
from training_runs import MakeConfig, train

FULL_OR_BROKEN = (errno.ENOSPC, errno.EIO, errno.EROFS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Training raises it, too.
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 29])
def test_training(tiny_config: MakeConfig, tmp_path: Path, step: int) -> None:
    monitor = MonitorConfig(
        log_every_images=16, validate_every_images=32, grid_every_images=32, num_validation_images=20
    )

    def command(folder: Path) -> None:
        train(tiny_config(run=str(folder / "run"), checkpoint=CheckpointConfig(every_images=32), monitor=monitor))

    def result(folder: Path) -> list[bytes]:
        (snapshot,) = (folder / "run" / "snapshots").glob("*64")
        (checkpoint,) = (folder / "run" / "checkpoints").glob("*64")
        return [path.read_bytes() for root in (snapshot, checkpoint) for path in sorted(root.glob("*.safetensors"))]

    failed = fail_at_every_change(tmp_path / "runs", FULL_OR_BROKEN, command, result, (UserError, TrainingFailed), step)
    assert len(failed) * step > 60
