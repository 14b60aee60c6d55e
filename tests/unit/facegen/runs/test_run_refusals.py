"""Options, data and run directories that do not go together are refused in one sentence."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facegen.networks.conv_config import ConvNetConfig
from facegen.options import EarlyStopConfig, OptimConfig
from facegen.runs import run_directory
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import MakeConfig, train


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 5}, "seed \\(was 0, now 5\\)"),
        ({"optim": OptimConfig(lr=0.5)}, "optim.lr \\(was 0.001, now 0.5\\)"),
        ({"model": {"latent_size": 7}}, "model.latent_size \\(was 6, now 7\\)"),
        ({"global_batch_size": 8}, "global_batch_size \\(was 16, now 8\\)"),
    ],
)
def test_a_run_resumes_only_with_its_own_options(changes: dict[str, Any], words: str, tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    with pytest.raises(UserError, match=f"started with other options: .*{words}.*another --run") as error:
        train(tiny_config(max_steps=2, **changes))
    assert "\n" not in str(error.value)


def test_accumulation_steps_may_change(tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    assert train(tiny_config(max_steps=2, gradient_accumulation_steps=2)).images_seen == 32


def test_a_run_resumes_only_with_its_own_data(tiny_config: MakeConfig, other_dataset: Path) -> None:
    train(tiny_config(max_steps=1))
    with pytest.raises(UserError, match="fingerprint .* but .* has .*another --run"):
        train(tiny_config(max_steps=2, data=str(other_dataset)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"global_batch_size": 10, "gradient_accumulation_steps": 4}, "global_batch_size 10.*use 8"),
        ({"global_batch_size": 1000}, "global_batch_size 1000"),
        ({"data": "nowhere"}, "nowhere holds no complete data set"),
        ({"model": {"network": ConvNetConfig(widths=[4] * 5)}}, "16x16 cannot be halved 5 times"),
        ({"seed": -1}, "seed"),
        ({"model": {"latent_size": 10**12}}, "networks of these options cannot be made .*; make them smaller"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], words: str, tiny_config: MakeConfig
) -> None:
    with pytest.raises(UserError, match=words):
        Trainer(tiny_config(**options))


@pytest.mark.parametrize("folder", ["snapshots", "best"])
def test_snapshots_of_another_run_are_refused(folder: str, tiny_config: MakeConfig) -> None:
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

    monkeypatch.setattr("os.replace", refused)
    with pytest.raises(UserError, match=r"cannot write to .*Permission denied.*fix this, then rerun the command"):
        Trainer(config)


def test_a_run_directory_that_is_a_file_is_refused(tiny_config: MakeConfig, tmp_path: Path) -> None:
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


def test_a_refusal_that_a_notebook_keeps_holds_no_lock(tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=1))
    with pytest.raises(UserError, match="was started with other options") as kept:
        Trainer(tiny_config(global_batch_size=32))
    assert train(tiny_config(max_steps=2)).images_seen == 32
    assert kept.value


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


def test_a_data_set_is_refused_as_a_run_directory(tiny_config: MakeConfig, tiny_dataset: Path) -> None:
    before = sorted(path.name for path in tiny_dataset.iterdir())
    with pytest.raises(UserError, match="holds a data set; give another --run"):
        Trainer(tiny_config(run=str(tiny_dataset)))
    assert sorted(path.name for path in tiny_dataset.iterdir()) == before


def test_an_empty_run_name_is_refused(tiny_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="data, run and init must not be empty"):
        tiny_config(run=" ")
