"""A run that resumes after its end, a crash or damage trains as if it had never stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facegen.families import FAMILIES
from facegen.options import CheckpointConfig, MonitorConfig, OptimConfig
from facegen.runs.checkpoint import newest_complete, write_complete
from facegen.runs.snapshot import find_snapshot
from training_runs import (
    DROPOUT,
    RICH,
    Crash,
    MakeConfig,
    assert_equal,
    assert_scalars_equal_events,
    checkpoints_of,
    crash_after,
    metrics_of,
    train,
)

# Options with which one step influences the next.
OBSERVING = {"equilibrium_margin": 0.02, "lecam_weight": 0.1, "adaptive_weight": True}


@pytest.mark.parametrize(
    ("family", "model"),
    [*((name, {}) for name in FAMILIES), ("ae", DROPOUT), ("vae", DROPOUT), ("vae_gan", OBSERVING)],
)
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(
    family: str, model: dict[str, Any], tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options = {**RICH, "model": model}
    whole = train(tiny_config(family, max_steps=6, **options))
    halves = {"run": str(tmp_path / "halves")}
    assert train(tiny_config(family, max_steps=3, **options, **halves)).images_seen == whole.images_seen // 2
    assert_equal(train(tiny_config(family, max_steps=6, **options, **halves)), whole)


def test_a_crashed_run_resumes_from_its_last_checkpoint_without_a_trace(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options = {"max_steps": 15, "checkpoint": CheckpointConfig(every_images=64), **RICH}  # Beyond the first epoch.
    monitor = MonitorConfig(log_every_images=16)
    whole = train(tiny_config(run=str(tmp_path / "whole"), monitor=monitor, **options))
    config = tiny_config(monitor=monitor, **options)
    for step in (2, 6, 14):
        with pytest.raises(Crash):
            train(config, crash_after(step))
    assert_equal(train(config), whole)
    assert [line["images_seen"] // 16 for line in metrics_of(config) if "train/loss" in line] == list(range(1, 16))
    assert_scalars_equal_events(config)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("weights.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-4]), "its file weights.* is damaged"),
        ("ema.safetensors", flip_a_byte, "its file ema.safetensors is damaged"),
        ("optimizers.pt", flip_a_byte, "its file optimizers.pt is damaged"),
        ("state.json", lambda path: path.write_text('{"images_seen": 64, '), "its file state.json is damaged"),
        ("state.json", Path.unlink, "its file state.json is missing"),
        ("COMPLETE", Path.unlink, "it has no COMPLETE file"),
        ("COMPLETE", lambda path: path.write_text("[1, 2"), "its COMPLETE file is damaged"),
    ],
)
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    name: str, damage: Callable[[Path], object], words: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options = {"max_steps": 4, "checkpoint": CheckpointConfig(every_images=32), **RICH}
    whole = train(tiny_config(run=str(tmp_path / "whole"), **options))
    config = tiny_config(**options)
    train(config)
    newest = Path(config.run) / "checkpoints/images_000000000064"
    damage(newest / name)
    with pytest.warns(UserWarning, match=f"set aside as damaged_images_000000000064: {words}"):
        assert_equal(train(config), whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert newest_complete(Path(config.run) / "checkpoints") == newest


def test_a_finished_run_does_nothing_and_says_so(tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config()
    first = train(config)
    files = {path: path.stat().st_mtime_ns for path in Path(config.run, "checkpoints").rglob("*")}
    capsys.readouterr()
    steps: list[int] = []
    second = train(config, lambda trainer, *_: steps.append(trainer.step))
    assert steps == []
    assert_equal(first, second)
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path(config.run, "checkpoints").rglob("*")} == files


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_crash_while_the_last_state_is_saved_costs_neither_checkpoint_nor_snapshot(
    survivors: int, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=4, checkpoint=CheckpointConfig(every_images=32))
    final, written = "images_000000000064", []

    def write_or_crash(directory: Path, write: Callable[[Path], None]) -> None:
        if directory.name == final:
            if len(written) == survivors:
                raise Crash
            written.append(directory)
        write_complete(directory, write)

    with monkeypatch.context() as patch:
        patch.setattr("facegen.runs.snapshot.write_complete", write_or_crash)
        patch.setattr("facegen.runs.checkpoint.write_complete", write_or_crash)
        with pytest.raises(Crash):
            train(config)
    assert len(written) == survivors
    assert train(config).exit_code == 0
    assert checkpoints_of(config)[-1] == final
    assert find_snapshot(Path(config.run)).name == final


def test_options_that_do_not_affect_the_weights_may_change(tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    monitor = MonitorConfig(log_every_images=16)
    assert train(tiny_config(max_steps=2, monitor=monitor, checkpoint=CheckpointConfig(keep=5))).images_seen == 32


def test_a_stretched_cosine_schedule_is_announced(tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    cosine = OptimConfig(schedule="cosine", warmup_images=0)
    train(tiny_config(optim=cosine, max_steps=2))
    assert "the learning rate jumps" not in capsys.readouterr().out
    train(tiny_config(optim=cosine, max_steps=4))
    assert "planned for 32 images and now ends at 64" in capsys.readouterr().out
