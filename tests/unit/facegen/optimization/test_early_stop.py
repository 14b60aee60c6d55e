"""Early stopping: the decision by itself, and in runs that are cut off, resumed and finished."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facegen.model import load
from facegen.optimization.early_stop import EarlyStop
from facegen.options import CheckpointConfig, EarlyStopConfig, MonitorConfig, TrainConfig
from facegen.reporting.reporter import Reporter
from facegen.runs.snapshot import find_snapshot
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import Crash, Outcome, assert_equal, crash_after, train

MakeConfig = Callable[..., TrainConfig]
OPTIONS: dict[str, Any] = {
    "max_steps": 100,
    "monitor": MonitorConfig(log_every_images=16, validate_every_images=32, num_validation_images=20),
    "checkpoint": CheckpointConfig(every_images=48),
    "early_stop": EarlyStopConfig("mse", "min", patience=2),
}
VALUES = {32: 0.9, 64: 0.5, 96: 0.6, 128: 0.5}
"""Held-out MSE by images seen: the best of a run is at 64, and the second validation without gain at 128."""


def observe(values: list[float], **options: Any) -> tuple[list[bool], EarlyStop]:
    stop = EarlyStop(EarlyStopConfig("mse", **options), ["mse"])
    return [stop.observe({"mse": value, "other": -value}, 32 * number) for number, value in enumerate(values, 1)], stop


@pytest.mark.parametrize(
    ("goal", "values", "is_best"),
    [
        ("min", [3.0, 2.0, 2.0, 1.0, 4.0], [True, True, False, True, False]),
        ("max", [3.0, 2.0, 4.0, 4.0, 5.0], [True, False, True, False, True]),
        ("min", [float("nan"), 2.0, float("-inf"), 3.0], [False, True, False, False]),
        ("max", [float("inf"), -2.0, float("nan")], [False, True, False]),
    ],
)
def test_the_best_is_strictly_better_and_finite(goal: str, values: list[float], is_best: list[bool]) -> None:
    assert observe(values, goal=goal)[0] == is_best


def test_it_is_over_after_patience_validations_in_a_row_without_gain() -> None:
    for values, is_over in (([2, 3], False), ([2, 3, 3], True), ([2, 3, 1, 3], False), ([2, 3, 1, 3, 1], True)):
        _, stop = observe([float(value) for value in values], patience=2)
        assert stop.is_over == is_over, values
    assert (stop.progress.best, stop.progress.best_images_seen) == (1.0, 96)


def test_without_a_metric_it_is_never_over() -> None:
    stop = EarlyStop(EarlyStopConfig(), ["mse"])
    assert not any(stop.observe({"mse": 1.0}, images_seen) for images_seen in range(0, 1000, 10))
    assert not stop.is_over
    assert not stop.is_due(1000, 10)


def test_a_validation_that_was_cut_off_does_not_count() -> None:
    _, stop = observe([2.0, 1.0])
    assert not stop.is_due(70, 32)
    assert not stop.observe({}, 96)
    assert (stop.progress.num_without_gain, stop.is_due(96, 32), stop.is_due(95, 32)) == (0, True, False)


def test_a_resume_with_another_metric_starts_anew() -> None:
    _, stop = observe([2.0, 3.0])
    saved = replace(stop.progress)
    again = EarlyStop(EarlyStopConfig("mse", patience=5), ["mse"])
    again.restore(saved)
    assert again.progress == stop.progress
    for config in (EarlyStopConfig("kl"), EarlyStopConfig("mse", "max")):
        other = EarlyStop(config, ["mse", "kl"])
        other.restore(saved)
        assert other.progress.best is None
    stop.restore(None)  # A checkpoint from before early stopping existed.
    assert stop.progress.best == 2.0


def test_an_impossible_patience_is_refused() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopConfig("mse", patience=0)


def test_an_unknown_metric_is_refused_at_the_start(tiny_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="early_stop.metric accuracy is not a held-out metric .* gives mse, kl\\."):
        Trainer(tiny_config(early_stop=EarlyStopConfig("accuracy")))
    with pytest.raises(UserError, match="gives accuracy, eer, auc"):
        Trainer(tiny_config("face_cnn", early_stop=EarlyStopConfig("mse")))


# In runs.


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Replaces the held-out MSE by ``VALUES``; gives the positions of the validations."""
    validated: list[int] = []
    right = Reporter.validate

    def validate(self: Reporter, state: Any) -> dict[str, float]:
        values = right(self, state)
        validated.append(state.images_seen)
        return values | {"mse": VALUES.get(state.images_seen, 0.7)}

    monkeypatch.setattr(Reporter, "validate", validate)
    yield validated


def progress_of(config: TrainConfig) -> tuple[Outcome, str]:
    outcome = train(config)
    return outcome, find_snapshot(Path(config.run)).name


def test_a_run_stops_early_and_gives_its_best_model(
    tiny_config: MakeConfig, scripted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(**OPTIONS)
    first = train(config)
    run = Path(config.run)
    assert (first.exit_code, first.images_seen, scripted) == (0, 128, [32, 64, 96, 128])
    assert "mse has had no better value than 0.5 at 64 images for 2 validations" in capsys.readouterr().out
    # Kept although it is older than the newest `keep` snapshots.
    # The best one, and the one before, which somebody may be opening.
    best = sorted(path.name for path in (run / "best").iterdir())
    assert best == ["images_000000000032", "images_000000000064"]
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == ["images_000000000096", "images_000000000128"]
    assert load(run).images_seen == 64
    assert load(run).run_dir == run
    assert load(run / "snapshots/images_000000000128").images_seen == 128

    second = train(config)
    assert_equal(second, first)
    assert scripted == [32, 64, 96, 128]
    assert "nothing to do" in (told := capsys.readouterr().out)
    assert "raise --early_stop.patience" in told
    more = tiny_config(**OPTIONS | {"early_stop": EarlyStopConfig("mse", "min", patience=3)})
    assert train(more).images_seen == 160
    off = tiny_config(**OPTIONS | {"early_stop": EarlyStopConfig(), "max_steps": 11})
    assert train(off).images_seen == 176
    assert load(run).images_seen == 176  # Without early stopping the newest one counts again.


def test_a_killed_and_resumed_run_is_the_uninterrupted_one(
    tiny_config: MakeConfig, scripted: list[int], tmp_path: Path
) -> None:
    whole, whole_best = progress_of(tiny_config(run=str(tmp_path / "whole"), **OPTIONS))
    config = tiny_config(**OPTIONS)
    for step in (4, 5, 7):
        with pytest.raises(Crash):
            train(config, crash_after(step))
    resumed, best = progress_of(config)
    assert_equal(resumed, whole)
    assert best == whole_best == "images_000000000064"


def test_a_validation_that_a_signal_cut_off_is_repeated(
    tiny_config: MakeConfig, scripted: list[int], tmp_path: Path
) -> None:
    whole, _ = progress_of(tiny_config(run=str(tmp_path / "whole"), **OPTIONS))
    config = tiny_config(**OPTIONS)

    def preempt(trainer: Trainer, *_: Any) -> None:
        if trainer.step == 4:  # The validation at 64 images, which would be the best, is cut off.
            os.kill(os.getpid(), signal.SIGTERM)

    scripted.clear()
    stopped = train(config, preempt)
    assert (stopped.exit_code, stopped.images_seen, scripted) == (143, 64, [32])
    resumed, best = progress_of(config)
    assert_equal(resumed, whole)
    assert (best, scripted) == ("images_000000000064", [32, 64, 96, 128])


def test_a_repeated_validation_may_be_the_last(
    tiny_config: MakeConfig, scripted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(**OPTIONS)

    def preempt(trainer: Trainer, *_: Any) -> None:
        if trainer.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(config, preempt).images_seen == 128
    assert scripted == [32, 64, 96]
    assert train(config).images_seen == 128
    capsys.readouterr()
    assert train(config).images_seen == 128
    assert scripted == [32, 64, 96, 128]
    assert "nothing to do" in capsys.readouterr().out
