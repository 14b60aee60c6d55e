"""The loop, in this process: resuming, stopping, diverging, refusing, and what it leaves in the run directory."""

from __future__ import annotations

import errno
import functools
import gc
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from facegen.families import FAMILIES, build
from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.vae import VAE
from facegen.latents.latent_history import LatentHistory, read_latent_history
from facegen.latents.latent_stats import LatentStats
from facegen.losses.vae import kl_per_dim
from facegen.model import load
from facegen.networks.conv import ConvNetConfig, ImageShape
from facegen.options import (
    CheckpointConfig,
    EarlyStopConfig,
    EMAConfig,
    LoaderConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from facegen.pixels import to_float
from facegen.processes.failures import SavingFailed, TrainingDiverged
from facegen.processes.preemption import StopFlag
from facegen.runs import run_directory
from facegen.runs.checkpoint import newest_complete, write_complete
from facegen.runs.snapshot import find_snapshot, read_description
from facegen.training.trainer import OnStep, Trainer
from facegen.training.validation import validate
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.loading.reader import Reader
from shards.pack import main as pack

MakeConfig = Callable[..., TrainConfig]

# All that could differ after resuming: moving average, warm-up, batch norm and, where a family has it, dropout.
DROPOUT = {"network": ConvNetConfig(widths=[4, 8], dropout=0.2)}
# Options by which one step decides about the next.
OBSERVING = {"equilibrium_margin": 0.02, "lecam_weight": 0.1, "adaptive_weight": True}
RICH: dict[str, Any] = {
    "model": DROPOUT,
    "ema": EMAConfig(half_life_images=50),
    "optim": OptimConfig(lr=1e-3, warmup_images=32, max_grad_norm=1.0),
}


class Crash(Exception):
    """Stands for a process that dies."""


@dataclass
class Outcome:
    exit_code: int
    images_seen: int
    tensors: dict[str, Tensor]
    """Weights, moving average and optimizer moments, by name."""


def train(config: TrainConfig, on_step: OnStep | None = None) -> Outcome:
    trainer = Trainer(config)
    try:
        exit_code = trainer.fit(on_step)
        tensors = {f"weights.{name}": tensor for name, tensor in trainer.family.state_dict().items()}
        if trainer.state.ema:
            tensors |= {f"ema.{name}": tensor for name, tensor in trainer.state.ema.module.state_dict().items()}
        for turn, updater in trainer.state.updaters.items():
            for number, state in updater.optimizer.state_dict()["state"].items():
                tensors |= {f"{turn}.{number}.{name}": tensor for name, tensor in state.items()}
        return Outcome(exit_code, trainer.images_seen, {name: tensor.clone() for name, tensor in tensors.items()})
    finally:
        del trainer
        gc.collect()  # Frees the lock, as the end of a process would.


def assert_equal(first: Outcome, second: Outcome) -> None:
    assert first.images_seen == second.images_seen
    assert set(first.tensors) == set(second.tensors)
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def crash_after(step: int) -> OnStep:
    def on_step(trainer: Trainer, *_: Any) -> None:
        if trainer.step == step:
            raise Crash

    return on_step


def lines_of(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines()]


def metrics_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The lines of scalars; those of vectors stand apart."""
    return [line for line in lines_of(config) if "train/kl_per_dim" not in line]


def test_kl_per_dim_is_written_and_sums_to_the_kl(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=2, monitor=MonitorConfig(log_every_images=16))
    train(config)
    vectors = [line["train/kl_per_dim"] for line in lines_of(config) if "train/kl_per_dim" in line]
    assert [len(vector) for vector in vectors] == [6, 6]
    assert [sum(vector) for vector in vectors] == pytest.approx(
        [line["train/kl"] for line in metrics_of(config) if "train/kl" in line], rel=1e-5
    )


def checkpoints_of(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in (Path(config.run) / "checkpoints").iterdir())


# Resuming.


@pytest.mark.parametrize(
    ("family", "model"),
    [*((name, {}) for name in FAMILIES), ("ae", DROPOUT), ("vae", DROPOUT), ("vae_gan", OBSERVING)],
)
def test_training_through_a_checkpoint_is_bitwise_training_in_one_go(
    family: str, model: dict[str, Any], tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options = {**RICH, "model": model}
    whole = train(tiny_config(family, max_steps=6, **options))
    halves = {"run": str(tmp_path / "halves")}
    assert train(tiny_config(family, max_steps=3, **options, **halves)).images_seen == whole.images_seen // 2
    assert_equal(train(tiny_config(family, max_steps=6, **options, **halves)), whole)


def test_a_crash_goes_back_to_the_last_checkpoint_and_leaves_no_trace(tiny_config: MakeConfig, tmp_path: Path) -> None:
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


def assert_scalars_equal_events(config: TrainConfig) -> None:
    """Every number of ``metrics.jsonl`` is in TensorBoard's view of the run, and no other."""
    events = EventAccumulator(config.run, size_guidance={"scalars": 0}).Reload()
    drawn = {(name, event.step): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    written = {
        (name, line["images_seen"]): value
        for line in metrics_of(config)
        for name, value in line.items()
        if name != "images_seen"
    }
    assert set(drawn) == set(written)
    for key, value in written.items():
        assert drawn[key] == pytest.approx(value, rel=1e-5), key


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


def test_sigterm_while_data_does_not_come_saves_at_once(
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
        ("vae", "facegen.training.reporter.evaluation_batches"),
        ("face_cnn", "facegen.training.reporter.read_pairs"),
        ("face_cnn", "facegen.training.validation.read_pairs"),
    ],
)
def test_sigterm_while_held_out_faces_do_not_come_saves_at_once(
    family: str, reader: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> Iterator[Any]:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(30)
        return iter(())

    def hang_when_read(*_: Any, **__: Any) -> Iterator[Any]:
        yield from hang()

    monkeypatch.setattr(reader, hang if reader.endswith("read_pairs") else hang_when_read)
    monitor = MonitorConfig(log_every_images=16, grid_every_images=32, validate_every_images=32)
    config = tiny_config(family, max_steps=4, monitor=monitor)
    started_sec = time.monotonic()
    stopped = train(config)
    assert time.monotonic() - started_sec < 20
    assert (stopped.exit_code, stopped.images_seen) == (143, 32)
    assert checkpoints_of(config) == ["images_000000000032"]


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
def test_a_damaged_checkpoint_costs_only_the_steps_behind_it(
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


# Refusing.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 5}, "seed \\(was 0, now 5\\)"),
        ({"optim": OptimConfig(lr=0.5)}, "optim.lr \\(was 0.001, now 0.5\\)"),
        ({"model": {"latent_size": 7}}, "model.latent_size \\(was 6, now 7\\)"),
        ({"global_batch_size": 8}, "global_batch_size \\(was 16, now 8\\)"),
    ],
)
def test_a_run_goes_on_only_with_its_own_options(changes: dict[str, Any], words: str, tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    with pytest.raises(UserError, match=f"started with other options: .*{words}.*another --run") as error:
        train(tiny_config(max_steps=2, **changes))
    assert "\n" not in str(error.value)


def test_a_run_goes_on_only_with_its_own_data(tiny_config: MakeConfig, other_dataset: Path) -> None:
    train(tiny_config(max_steps=1))
    with pytest.raises(UserError, match="fingerprint .* but .* has .*another --run"):
        train(tiny_config(max_steps=2, data=str(other_dataset)))


def test_what_does_not_touch_the_weights_may_change(tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    monitor = MonitorConfig(log_every_images=16)
    assert train(tiny_config(max_steps=2, monitor=monitor, checkpoint=CheckpointConfig(keep=5))).images_seen == 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"global_batch_size": 10, "gradient_accumulation_steps": 4}, "global_batch_size 10.*use 8"),
        ({"global_batch_size": 1000}, "global_batch_size 1000"),
        ({"data": "nowhere"}, "nowhere holds no complete data set"),
        ({"model": {"network": ConvNetConfig(widths=[4] * 5)}}, "16x16 cannot be halved 5 times"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], words: str, tiny_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=words):
        Trainer(tiny_config(**options))


@pytest.mark.parametrize("folder", ["snapshots", "best"])
def test_snapshots_of_another_run_are_not_taken_for_this_ones(folder: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=2, early_stop=EarlyStopConfig(metric="mse", patience=9))
    train(config)
    for name in {"checkpoints", "snapshots", "best"} - {folder}:
        shutil.rmtree(Path(config.run) / name)
    with pytest.raises(UserError, match="started with other options: seed"):
        train(replace(config, max_steps=1, seed=5))
    assert train(config).exit_code == 0  # The same run makes the same ones.


def test_a_run_without_a_good_checkpoint_is_not_trained_over(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=2)
    train(config)
    [checkpoint] = (Path(config.run) / "checkpoints").glob("images_*")
    (checkpoint / "COMPLETE").unlink()
    curves = (Path(config.run) / "metrics.jsonl").read_text()
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(UserError, match="every checkpoint of .* damaged"):
        train(config)
    with pytest.raises(UserError, match="every checkpoint of .* damaged"):
        train(config)
    assert (Path(config.run) / "metrics.jsonl").read_text() == curves


def test_a_checkpoint_that_cannot_be_renamed_is_one_sentence(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=1)
    train(config)
    [checkpoint] = (Path(config.run) / "checkpoints").glob("images_*")
    (checkpoint / "COMPLETE").unlink()

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.rename", refused)
    with pytest.raises(UserError, match=r"cannot write to .*Permission denied.*fix this, then rerun the command"):
        Trainer(config)


def test_a_run_directory_that_is_a_file(tiny_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*another --run"):
        Trainer(tiny_config(run=str(tmp_path / "file")))


HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_two_processes_do_not_train_in_one_run(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory.lock, "__defaults__", (0.3,))
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path / "run/.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="another process is training in .*run"):
            Trainer(tiny_config())
        holder.kill()
    assert train(tiny_config(max_steps=1)).exit_code == 0  # A killed process leaves no lock behind.


# Disks and clocks.


@pytest.mark.parametrize("attribute", ["facegen.training.state.save_state", "facegen.runs.snapshot.save_module"])
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
    monkeypatch.setattr("facegen.training.monitor.Monitor.scalars", no_space)
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
        # As if the clock had run backwards: the newest checkpoint is that of the most images, whatever its date.
        for age, path in enumerate(sorted((Path(config.run) / "checkpoints").iterdir())):
            os.utime(path, (1e9 - age, 1e9 - age))
    assert_equal(train(config), whole)
    lines = [line for line in metrics_of(config) if "train/loss" in line]
    assert [line["images_seen"] // 16 for line in lines] == list(range(1, 13))
    assert all(line["speed/images_per_sec"] > 0 for line in lines if "speed/images_per_sec" in line)


# Diverging.


def broken_at(images_seen: int, spoil: Callable[[TurnLosses], TurnLosses]) -> Callable[..., TurnLosses]:
    right = VAE.losses

    def losses(self: VAE, turn: str, networks: Any, batch: TrainBatch) -> TurnLosses:
        terms = right(self, turn, networks, batch)
        return spoil(terms) if batch.images_seen >= images_seen else terms

    return losses


def bad_term(terms: TurnLosses) -> TurnLosses:
    return TurnLosses(terms.loss * math.nan, terms.scalars | {"kl": torch.tensor(math.nan)}, terms.kl_per_dim)


def bad_gradient_only(terms: TurnLosses) -> TurnLosses:
    """A finite loss whose gradient is not: the root of zero."""
    zero = 0 * terms.loss
    return TurnLosses(terms.loss.detach() + zero.abs().sqrt(), terms.scalars, terms.kl_per_dim)


@pytest.mark.parametrize(("spoil", "named"), [(bad_term, "kl, gradient"), (bad_gradient_only, "gradient")])
def test_a_bad_value_stops_before_the_optimizer(
    spoil: Callable[[TurnLosses], TurnLosses], named: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        max_steps=8, checkpoint=CheckpointConfig(every_images=32), monitor=MonitorConfig(log_every_images=16), **RICH
    )
    expected = train(tiny_config(max_steps=3, run=f"{config.run}_expected", **RICH))
    trainer = Trainer(config)
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(VAE, "losses", broken_at(48, spoil))
        with pytest.raises(TrainingDiverged, match=f"before step 4 \\(48 images\\): {named} of the autoencoder"):
            trainer.fit()
    for name, parameter in trainer.family.named_parameters():
        assert torch.equal(parameter, expected.tensors[f"weights.{name}"]), name
    assert trainer.images_seen == 48
    assert newest_complete(Path(config.run) / "checkpoints") == Path(config.run) / "checkpoints/images_000000000032"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [line["images_seen"] // 16 for line in metrics_of(config)] == [1, 2, 3]
    assert_scalars_equal_events(config)
    del trainer
    gc.collect()
    assert train(config).images_seen == 128  # The last checkpoint is good, and the cause is gone.


def bad_constant(terms: TurnLosses) -> TurnLosses:
    """A term without a gradient."""
    return TurnLosses(terms.loss, terms.scalars | {"kl": torch.tensor(math.nan)}, terms.kl_per_dim)


def test_a_bad_term_whose_gradient_is_good_stops_at_the_next_log_line(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        max_steps=8, checkpoint=CheckpointConfig(every_images=32), monitor=MonitorConfig(log_every_images=32), **RICH
    )
    monkeypatch.setattr(VAE, "losses", broken_at(32, bad_constant))
    with pytest.raises(TrainingDiverged, match=r"after step 4 \(64 images\): kl is not finite"):
        train(config)
    assert newest_complete(Path(config.run) / "checkpoints") == Path(config.run) / "checkpoints/images_000000000032"


# Collapse, accumulation, precision.


def test_a_collapsed_posterior_is_announced_with_its_number(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"max_epochs": 3, "max_steps": None, "optim": OptimConfig(lr=0.01, warmup_images=0)}
    train(tiny_config(model={"kld_weight": 500.0, "reconstruction": "sum"}, **options))
    lines = [line for line in capsys.readouterr().out.splitlines() if "posterior collapse" in line]
    assert lines
    assert "mean KL over the last epoch is 0.0" in lines[-1]
    train(tiny_config(model={"kld_weight": 0.0}, run=f"{tiny_config().run}_free", **options))
    assert "posterior collapse" not in capsys.readouterr().out


@pytest.mark.parametrize("family", ["ae", "vae"])
def test_accumulated_gradients_are_those_of_one_big_batch(family: str, tiny_config: MakeConfig, tmp_path: Path) -> None:
    options = {"max_steps": 3, "model": {"network": ConvNetConfig(widths=[4, 8], norm="none")}}
    monitor = MonitorConfig(log_every_images=16)
    at_once, in_parts = (
        tiny_config(
            family, run=str(tmp_path / str(steps)), gradient_accumulation_steps=steps, monitor=monitor, **options
        )
        for steps in (1, 4)
    )
    first, second = train(at_once), train(in_parts)
    for name, tensor in first.tensors.items():
        if name.startswith("weights."):
            torch.testing.assert_close(second.tensors[name], tensor, rtol=0, atol=1e-6)
    for line, other in zip(metrics_of(at_once), metrics_of(in_parts), strict=True):
        trained = {name: value for name, value in line.items() if name.startswith("train/")}
        assert trained == pytest.approx({name: other[name] for name in trained}, rel=1e-3)


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the mixed precision as ``accelerate launch`` does."""

    def choose(name: str) -> None:
        AcceleratorState._reset_state(True)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", name)

    yield choose
    AcceleratorState._reset_state(True)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(
    tiny_config: MakeConfig, precision: Callable[[str], None], tmp_path: Path
) -> None:
    exact = train(tiny_config(run=str(tmp_path / "exact"), **RICH))
    precision("bf16")
    rounded = train(tiny_config(**RICH))
    floats = {name: tensor for name, tensor in rounded.tensors.items() if tensor.is_floating_point()}
    assert {tensor.dtype for tensor in floats.values()} == {torch.float32}
    assert any(not torch.equal(tensor, exact.tensors[name]) for name, tensor in floats.items())
    for name in exact.tensors:
        if name.startswith("ema.") and name.endswith("weight"):
            torch.testing.assert_close(rounded.tensors[name], exact.tensors[name], rtol=0, atol=5e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_in_bf16(family: str, tiny_config: MakeConfig, precision: Callable[[str], None]) -> None:
    precision("bf16")
    config = tiny_config(family, max_steps=2, monitor=MonitorConfig(log_every_images=16, num_validation_images=20))
    outcome = train(config)
    assert all(tensor.dtype != torch.bfloat16 and tensor.isfinite().all() for tensor in outcome.tensors.values())
    assert all(math.isfinite(value) for line in metrics_of(config) for value in line.values())


def test_fp16_where_it_cannot_be_had(tiny_config: MakeConfig, precision: Callable[[str], None]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can do fp16")
    precision("fp16")
    with pytest.raises(UserError, match="fp16"):
        Trainer(tiny_config())


# What is left in the run directory.


def test_dry_run_trains_one_step_and_keeps_no_file(tiny_config: MakeConfig, tmp_path: Path) -> None:
    steps: list[int] = []
    outcome = train(tiny_config(dry_run=True, max_steps=100), lambda trainer, *_: steps.append(trainer.step))
    assert (outcome.exit_code, steps) == (0, [1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [{"max_steps": 2}, {"max_images": 20}, {"max_epochs": 0.15}])
def test_limits(limit: dict[str, Any], tiny_config: MakeConfig) -> None:
    assert train(tiny_config(**{"max_steps": None} | limit)).images_seen == 32


def test_a_run_leaves_config_metrics_pictures_checkpoints_and_snapshots(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(
        max_steps=6,
        monitor=MonitorConfig(
            log_every_images=32, grid_every_images=64, validate_every_images=48, num_validation_images=20
        ),
        checkpoint=CheckpointConfig(every_images=32),
        **RICH,
    )
    train(config)
    run = Path(config.run)
    assert {"config.yaml", "metrics.jsonl", "pictures", "checkpoints", "snapshots"} <= {
        path.name for path in run.iterdir()
    }
    assert checkpoints_of(config) == ["images_000000000064", "images_000000000096"]  # Two are kept.
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == checkpoints_of(config)
    pictures = {path.name: Image.open(path).size for path in (run / "pictures").iterdir()}
    num_rows = {"samples": 32 // 8, "reconstructions": 2 * -(-min(32, Dataset(config.data).num_samples("val")) // 8)}
    assert pictures == {
        f"{name}_images_{images_seen:012d}.png": (8 * 18 + 2, num_rows[name] * 18 + 2)
        for name in num_rows
        for images_seen in (64, 96)
    } | {"latent_usage_images_000000000096.png": (544, 142)}
    metrics = metrics_of(config)
    trained, held_out = [[m["images_seen"] for m in metrics if key in m] for key in ("train/loss", "val/mse")]
    assert (trained, held_out) == ([32, 64, 96], [48, 96])
    assert_scalars_equal_events(config)
    histograms = EventAccumulator(config.run).Reload().Tags()["histograms"]
    assert {"train/kl_per_dim", "latents/mu", "latents/variance_of_mu"} <= set(histograms)
    description = read_description(find_snapshot(run))
    assert (description.images_seen, description.step, list(description.weights)) == (96, 6, ["ema", "raw"])
    assert description.dataset_fingerprint == Dataset(config.data).fingerprint
    assert "beta_eff" in capsys.readouterr().out


def test_logged_values_are_means_over_the_window(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=4, monitor=MonitorConfig(log_every_images=32))
    losses: list[float] = []
    train(config, lambda trainer, batch, terms: losses.append(terms["loss"].item()))
    logged = [line["train/loss"] for line in metrics_of(config) if "train/loss" in line]
    assert logged == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2], rel=1e-5)


def test_training_sees_every_image_of_an_epoch_once(tiny_config: MakeConfig) -> None:
    rows: list[Tensor] = []
    train(tiny_config(max_epochs=1, max_steps=None), lambda trainer, batch, terms: rows.append(batch.rows))
    seen = torch.cat(rows)
    assert len(seen.unique()) == len(seen) == Dataset(tiny_config().data).num_samples("train") // 16 * 16


@pytest.mark.parametrize(
    ("family", "labels"),
    [("vae", set()), ("cvae", {"smile"}), ("mod_vae", {"group_kind"}), ("face_cnn", {"identity", "same"})],
)
def test_a_batch_holds_the_labels_that_its_family_uses(tiny_config: MakeConfig, family: str, labels: set[str]) -> None:
    seen: list[set[str]] = []
    config = tiny_config(family, max_steps=1)
    train(config, lambda trainer, batch, terms: seen.append({*batch.labels}))
    assert seen == [labels]
    assert labels & {"smile", "identity"} < {*Dataset(config.data).fields}


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tiny_config: MakeConfig, tmp_path: Path) -> None:
    first, second, other = (
        train(tiny_config(run=str(tmp_path / name), seed=seed, max_steps=2))
        for name, seed in zip("abc", (0, 0, 1), strict=True)
    )
    assert_equal(first, second)
    assert not torch.equal(
        first.tensors["weights.networks.autoencoder.encoder.head.weight"],
        other.tensors["weights.networks.autoencoder.encoder.head.weight"],
    )


def test_dropout_draws_anew_in_every_step(tiny_config: MakeConfig) -> None:
    seeds: list[int] = []
    model = {"network": ConvNetConfig(widths=[4, 8], dropout=0.1)}
    train(tiny_config(max_steps=3, model=model), lambda *_: seeds.append(torch.initial_seed()))
    assert len(set(seeds)) == 3


def test_training_lowers_the_loss(tiny_config: MakeConfig) -> None:
    losses: list[float] = []
    config = tiny_config(max_epochs=4, max_steps=None, optim=OptimConfig(lr=0.01, warmup_images=0))
    train(config, lambda trainer, batch, terms: losses.append(terms["mse"].item()))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


# Held-out metrics.


class OneOfMany:
    """What ``validate`` needs of an accelerator: one process of a group whose totals are known beforehand."""

    device = torch.device("cpu")

    def __init__(self, process_index: int, num_processes: int, of_the_group: Tensor | None = None) -> None:
        self.process_index, self.num_processes, self.of_the_group = process_index, num_processes, of_the_group
        self.given: list[Tensor] = []

    def reduce(self, tensor: Tensor) -> Tensor:
        self.given.append(tensor)
        return tensor if self.of_the_group is None else self.of_the_group

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor


class Asked(StopFlag):
    """Counts how often it is asked and says yes from some question on."""

    def __init__(self, yes_from: int = 1_000) -> None:
        super().__init__()
        self.close()  # No signals are needed.
        self.questions, self.yes_from = 0, yes_from

    def agree(self, device: torch.device) -> bool:
        self.questions += 1
        return self.questions > self.yes_from


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_validation_is_the_mean_over_all_images_for_any_number_of_processes(
    name: str, tiny_config: MakeConfig, tiny_dataset: Path
) -> None:
    torch.manual_seed(0)
    family = build(name, tiny_config(name).model, ImageShape(3, 16, 16)).eval()
    dataset = Dataset(tiny_dataset)
    batch = next(iter(evaluation_batches(dataset, "val", 20)))
    images = to_float(batch.images)
    with torch.no_grad():
        mu, logvar = family.posterior(images, {})
        expected = {"mse": (family.decode(mu, {}) - images).square().mean().item()}
    if logvar is not None:
        expected["kl"] = kl_per_dim(mu, logvar).sum(1).mean().item()

    alone = OneOfMany(0, 1)
    whole = validate(family, dataset, "val", 20, 6, alone, Asked())  # type: ignore[arg-type]
    assert whole is not None
    assert whole.values == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(whole.mu, mu)
    for num_processes in (2, 5):  # 20 images in batches of 6: of five processes the last one gets none.
        group = [OneOfMany(rank, num_processes, alone.given[0]) for rank in range(num_processes)]
        asked = [Asked() for _ in group]
        results = [
            validate(family, dataset, "val", 20, 6, member, stop)  # type: ignore[arg-type]
            for member, stop in zip(group, asked, strict=True)
        ]
        assert len({stop.questions for stop in asked}) == 1  # It is a collective call, too.
        assert [len(member.given) for member in group] == [1] * num_processes  # Each joins the one collective call.
        torch.testing.assert_close(torch.stack([member.given[0] for member in group]).sum(0), alone.given[0])
        assert all(held_out is not None and held_out.values == whole.values for held_out in results)
        together = functools.reduce(LatentStats.merge, [held_out.stats for held_out in results if held_out])
        assert together.count == 20
        torch.testing.assert_close(together.variance, mu.double().var(0, correction=0), rtol=1e-5, atol=1e-9)
    assert validate(family, dataset, "val", 20, 6, OneOfMany(0, 1), Asked(2)) is None  # type: ignore[arg-type]


# Latents over epochs.


def history_of(config: TrainConfig) -> LatentHistory:
    history = read_latent_history(Path(config.run))
    assert history is not None
    return history


def assert_same_history(first: LatentHistory, second: LatentHistory) -> None:
    assert first.split == second.split
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], name)


@pytest.mark.parametrize("family", ["ae", "vae", "face_cnn", "dcgan"])
def test_each_epoch_leaves_the_variance_of_its_latents(family: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(family, max_epochs=1.25, max_steps=None, ema=EMAConfig(half_life_images=50))
    trained = train(config)
    if family == "dcgan":
        assert read_latent_history(Path(config.run)) is None
        return
    history = history_of(config)
    epoch_size = history.images_seen[0]
    assert history.images_seen.tolist() == [epoch_size, trained.images_seen]
    assert history.epochs.tolist() == [1, trained.images_seen / epoch_size]
    assert (history.split, history.count.tolist()) == ("val", [20, 20])
    batch = next(evaluation_batches(Dataset(config.data), "val", 20))
    with torch.no_grad():
        mu, logvar = load(config.run).posterior(to_float(batch.images), batch.labels)  # The moving average's.
    np.testing.assert_allclose(history.mean[-1], mu.double().mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(history.variance[-1], np.var(mu.double().numpy(), axis=0), rtol=1e-5, atol=1e-9)
    assert (history.kl is None) == (logvar is None)
    if history.kl is not None and logvar is not None:
        np.testing.assert_allclose(history.kl[-1], kl_per_dim(mu, logvar).mean(0), rtol=1e-4, atol=1e-6)
    events = EventAccumulator(config.run).Reload()
    assert [event.step for event in events.Images("latent_usage")] == [trained.images_seen]


def test_a_crash_leaves_the_history_as_one_run_would(tiny_config: MakeConfig, tmp_path: Path) -> None:
    options = {"max_steps": 26, "checkpoint": CheckpointConfig(every_images=16 * 20)}
    whole = tiny_config(run=str(tmp_path / "whole"), **options)
    train(whole)
    config = tiny_config(**options)
    with pytest.raises(Crash):
        train(config, crash_after(25))  # Beyond the second epoch, after 24 steps, and back to within it.
    assert history_of(config).epochs.tolist() == [1, 2]
    with pytest.raises(Crash):
        train(config, crash_after(21))
    assert history_of(config).epochs.tolist() == [1]
    train(config)
    assert_same_history(history_of(config), history_of(whole))


def test_a_damaged_history_starts_anew(tiny_config: MakeConfig) -> None:
    options = {"max_steps": None, "checkpoint": CheckpointConfig(every_images=96)}
    config = tiny_config(max_epochs=1, **options)
    train(config)
    path = Path(config.run) / "latent_usage.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="latent_usage.safetensors is damaged"):
        train(tiny_config(max_epochs=2, **options))
    assert history_of(config).epochs.tolist() == [2]


def test_what_validation_has_encoded_is_not_encoded_again(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[bool] = []

    def counted(*args: Any, only_encode: bool) -> Any:
        passes.append(only_encode)
        return validate(*args, only_encode=only_encode)

    monkeypatch.setattr("facegen.training.reporter.validate", counted)
    monitor = MonitorConfig(validate_every_images=384, num_validation_images=20)
    config = tiny_config(max_epochs=2.5, max_steps=None, monitor=monitor)
    train(config)
    assert passes == [True, False, False]  # Epoch 1; validation and epoch 2; validation and the end.
    assert history_of(config).epochs.tolist() == [1, 2, 2.5]


def test_a_signal_during_the_pass_leaves_that_epoch_out(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_epochs=2, max_steps=None)
    right = VAE.posterior

    def signaled(self: VAE, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return right(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "posterior", signaled)
        stopped = train(config)
    assert stopped.exit_code == 143
    assert read_latent_history(Path(config.run)) is None
    assert train(config).exit_code == 0
    assert history_of(config).images_seen.tolist() == [2 * stopped.images_seen]


def test_training_faces_stand_in_where_nothing_is_held_out(tiny_config: MakeConfig, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    fractions = ["--val_fraction", "0", "--test_fraction", "0"]
    pack(["synthetic", data, "--num", "64", "--size", "16", "--workers", "1", *fractions])
    config = tiny_config(data=data, max_steps=1)
    train(config)
    assert (history_of(config).split, history_of(config).count.tolist()) == ("train", [20])


@pytest.mark.parametrize(
    ("function", "error", "sentence"),
    [
        ("fcntl.flock", OSError(errno.ENOSYS, "Function not implemented"), "run cannot be locked .*flock.*another one"),
        ("pathlib.Path.exists", PermissionError(errno.EACCES, "Permission denied"), "cannot write to .*another --run"),
        ("pathlib.Path.is_file", PermissionError(errno.EACCES, "Permission denied"), r"dataset\.json cannot be read"),
    ],
)
def test_what_the_file_system_refuses_is_one_sentence(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, function: str, error: OSError, sentence: str
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(function, refused)
    with pytest.raises(UserError, match=sentence):
        Trainer(tiny_config())


def test_a_validation_that_is_cut_off_rewrites_no_checkpoint(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=2, early_stop=EarlyStopConfig(metric="mse", patience=9))
    assert train(config).exit_code == 0
    trainer = Trainer(replace(config, max_steps=4))
    monkeypatch.setattr(trainer.state.early_stop, "is_due", lambda *_: True)
    monkeypatch.setattr(trainer.reporter, "validate", lambda *_: os.kill(os.getpid(), signal.SIGUSR1) or {})
    [before] = (tmp_path / "run" / "checkpoints").glob("images_*")
    written = before.stat().st_ino
    assert trainer.fit() == 143
    assert before.stat().st_ino == written


def test_a_data_set_is_no_run_directory(tiny_config: MakeConfig, tiny_dataset: Path) -> None:
    before = sorted(path.name for path in tiny_dataset.iterdir())
    with pytest.raises(UserError, match="holds a data set; give another --run"):
        Trainer(tiny_config(run=str(tiny_dataset)))
    assert sorted(path.name for path in tiny_dataset.iterdir()) == before


def test_an_empty_run_is_refused(tiny_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="data and run must not be empty"):
        tiny_config(run=" ")


@pytest.mark.parametrize(
    ("fractions", "sentence"),
    [
        (["--val_fraction", "0", "--test_fraction", "0"], "no val or test split"),
        (["--val_fraction", "0", "--test_fraction", "0.2"], "no val split, so training watches the test split"),
    ],
)
def test_missing_held_out_splits_are_announced(
    fractions: list[str], sentence: str, tiny_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "data")
    pack(["synthetic", data, "--num", "64", "--size", "16", "--workers", "1", *fractions])
    train(tiny_config(data=data, max_steps=1))
    assert sentence in capsys.readouterr().out


def test_a_stretched_cosine_schedule_is_announced(tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    cosine = OptimConfig(schedule="cosine", warmup_images=0)
    train(tiny_config(optim=cosine, max_steps=2))
    assert "the learning rate jumps" not in capsys.readouterr().out
    train(tiny_config(optim=cosine, max_steps=4))
    assert "planned for 32 images and now ends at 64" in capsys.readouterr().out
