"""A signal stops a run at once, even while it waits for data, and saves a checkpoint."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facegen.options import EarlyStopConfig, LoaderConfig, MonitorConfig
from facegen.runs.checkpoint import newest_complete
from facegen.training.trainer import Trainer
from shards.loading.reader import Reader
from training_runs import RICH, MakeConfig, assert_equal, checkpoints_of, train


def test_sigterm_saves_and_exits_with_143(tiny_config: MakeConfig, tmp_path: Path) -> None:
    whole = train(tiny_config(max_steps=5, run=str(tmp_path / "whole"), **RICH))
    before = signal.getsignal(signal.SIGTERM)

    def preempt(trainer: Trainer, *_: Any) -> None:
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = tiny_config(max_steps=5, **RICH)
    stopped = train(config, preempt)
    assert (stopped.exit_code, stopped.images_seen) == (143, 32)
    assert newest_complete(Path(config.run) / "checkpoints") == Path(config.run) / "checkpoints/images_000000000032"
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = train(config)
    assert resumed.exit_code == 0
    assert_equal(resumed, whole)


def test_sigterm_while_waiting_for_data_saves_at_once(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 5, "loader": LoaderConfig(num_threads=1, prefetch_batches=1), **RICH}
    whole = train(tiny_config(run=str(tmp_path / "whole"), **options))
    read_images, goes_on, num_batches = Reader.read_images, threading.Event(), itertools.count(1)

    def hang(self: Reader, *args: Any) -> None:
        if next(num_batches) == 4:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            assert goes_on.wait(60)
        read_images(self, *args)

    config = tiny_config(**options)
    with monkeypatch.context() as patch:
        patch.setattr("shards.loading.loader._READ_IMAGES", 16)
        patch.setattr(Reader, "read_images", hang)
        started_sec = time.monotonic()
        stopped = train(config)
        assert time.monotonic() - started_sec < 20
        goes_on.set()
    assert (stopped.exit_code, stopped.images_seen) == (143, 48)
    assert checkpoints_of(config) == ["images_000000000048"]
    assert_equal(train(config), whole)


@pytest.mark.parametrize(
    ("family", "reader"),
    [
        ("vae", "facegen.reporting.reporter.evaluation_batches"),
        ("face_cnn", "facegen.reporting.reporter.read_pairs"),
        ("face_cnn", "facegen.reporting.held_out.read_pairs"),
    ],
)
def test_sigterm_while_waiting_for_held_out_faces_saves_at_once(
    family: str, reader: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> Iterator[Any]:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(30)
        return iter(())

    def hang_when_read(*_: Any, **__: Any) -> Iterator[Any]:
        yield from hang()

    monkeypatch.setattr(reader, hang if reader.endswith("read_pairs") else hang_when_read)
    validate_every = 1_000 if "reporter" in reader else 32  # The reporter reads the faces of its pictures.
    monitor = MonitorConfig(log_every_images=16, grid_every_images=32, validate_every_images=validate_every)
    config = tiny_config(family, max_steps=4, monitor=monitor)
    started_sec = time.monotonic()
    stopped = train(config)
    assert time.monotonic() - started_sec < 20
    assert (stopped.exit_code, stopped.images_seen) == (143, 32)
    assert checkpoints_of(config) == ["images_000000000032"]


def test_a_validation_that_is_cut_off_does_not_rewrite_the_checkpoint(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=2, early_stop=EarlyStopConfig(metric="mse", patience=9))
    assert train(config).exit_code == 0
    trainer = Trainer(replace(config, max_steps=4))
    monkeypatch.setattr(trainer.state.early_stop, "is_due", lambda *_: True)
    right = trainer.family.posterior

    def signaled(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return right(*args)

    monkeypatch.setattr(trainer.family, "posterior", signaled)
    [before] = (tmp_path / "run" / "checkpoints").glob("images_*")
    written = before.stat().st_ino
    assert trainer.fit() == 143
    assert before.stat().st_ino == written
