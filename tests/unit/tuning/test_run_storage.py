"""Copies of runs in a storage, for machines without a shared file system."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from facegen.config import TrainConfig
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from tuning.trials.run_storage import RunStorage


def test_a_copy_is_complete_and_is_fetched_if_it_is_ahead(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(max_steps=6)
    config.checkpoint.every_images = 32
    run, storage = Path(config.run), RunStorage(f"local://{tmp_path / 'storage'}")
    Trainer(config).fit(on_saved=lambda trainer, values: storage.save("trial", run))

    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    storage.save("trial", run)
    copy = tmp_path / "storage" / "trial"
    assert files(run) == files(copy)  # Two of three checkpoints are kept, on both sides.
    assert len(list((copy / "checkpoints").iterdir())) == 2

    elsewhere = tmp_path / "elsewhere"
    RunStorage(f"local://{tmp_path / 'storage'}").restore("trial", elsewhere)
    assert files(elsewhere) == files(run)
    (copy / "metrics.jsonl").write_text("changed")
    storage.restore("trial", elsewhere)  # As far as the storage: unchanged.
    assert files(elsewhere) == files(run)
    shutil.rmtree(max((elsewhere / "checkpoints").iterdir()))
    storage.restore("trial", elsewhere)
    assert (elsewhere / "metrics.jsonl").read_text() == "changed"
    storage.restore("unknown", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("half", ["without its marker", "with an older marker"])
def test_an_unfinished_copy_does_not_count(half: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = tiny_config(max_steps=2)
    run, storage = Path(config.run), RunStorage(f"local://{tmp_path / 'storage'}")
    Trainer(config).fit()
    storage.save("trial", run)
    for group in ("checkpoints", "snapshots"):
        [sent] = (tmp_path / "storage" / "trial" / group).iterdir()
        if half == "without its marker":
            (sent / "COMPLETE").unlink()
        else:
            next(sent.glob("*.safetensors")).write_bytes(b"of another branch")
    shutil.rmtree(run)  # Another machine resumes it.
    storage.restore("trial", run)
    assert not list((run / "checkpoints").iterdir()) and not list((run / "snapshots").iterdir())
    trainer = Trainer(config)
    assert (trainer.images_seen, trainer.fit()) == (0, 0)
    with pytest.raises(UserError, match="cannot use the storage nosuch://"):
        RunStorage("nosuch://bucket")
