"""Files of a run that were damaged, or sealed by somebody else: one sentence with file, field and value."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facegen.config import parse_args
from facegen.model import load
from facegen.runs.checkpoint import MARKER, load_module, load_state, save_module, write_complete
from facegen.runs.config_file import read_config
from facegen.runs.state_file import read_facts
from shards.base.errors import DamagedFile, UserError

OLD = Path(__file__).parents[3] / "fixtures" / "release_0_1" / "run"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def reseal(directory: Path, name: str, content: bytes) -> None:
    """Replaces a file of a complete directory, as somebody who wants it to be read."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MARKER} | {name: content}
    write_complete(directory, lambda new: [(new / own).write_bytes(data) for own, data in files.items()] and None)


def edited(path: Path, edit: Edit) -> bytes:
    content = json.loads(path.read_text())
    edit(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda s: s.update(images_seen="many"), "images_seen should be a valid integer, not 'many'"),
        (lambda s: s.update(images_seen=10**30), "images_seen should be less than or equal to .*, not 10"),
        (lambda s: s.pop("total_images"), "total_images is missing"),
        (lambda s: s["early_stop"].update(num_without_gain=-1), "early_stop.num_without_gain should be .*, not -1"),
        (lambda s: s["early_stop"].update(patience=1), "early_stop.patience is not a field"),
        (lambda s: s.update(config=[1]), "does not hold a training state"),
    ],
)
def test_a_state_that_is_damaged(run: Path, edit: Edit, finding: str) -> None:
    [checkpoint] = (run / "checkpoints").iterdir()
    reseal(checkpoint, "state.json", edited(checkpoint / "state.json", edit))
    with pytest.raises(DamagedFile, match=f"state.json.*{finding}.*; delete this checkpoint"):
        read_facts(checkpoint)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"null", b"9" * 5000, b""])
def test_a_state_that_is_not_json(run: Path, content: bytes) -> None:
    [checkpoint] = (run / "checkpoints").iterdir()
    (checkpoint / "state.json").write_bytes(content)
    with pytest.raises(DamagedFile, match="state.json .*; delete this checkpoint"):
        read_facts(checkpoint)


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda s: s.update(image_shape=[3, 16]), "image_shape should have at least 3"),
        (lambda s: s.update(image_shape=[3, 16, "16"]), r"image_shape\[2\] should be a valid integer, not '16'"),
        (lambda s: s.update(step=None), "step should be a valid integer, not None"),
        (lambda s: s.update(weights=["../../x"]), r"weights\[0\] should be 'ema' or 'raw', not '../../x'"),
        (lambda s: s.update(weights=[]), "has no raw weights"),
        (lambda s: s.update(family="vea"), "there is no family 'vea'"),
        (lambda s: s["config"].update(model=5), "model: expected options by name, not 5"),
        (lambda s: s["config"]["model"].update(network=-1), "option 'network' is a section of options, not -1"),
        (lambda s: s["config"]["model"].update(latent_size=None), "option 'latent_size' cannot be null"),
        (lambda s: s["config"]["model"].update(latent_size=10**12), "describes [0-9,]+ bytes of weights"),
        (lambda s: s["config"]["model"].update(latent_size=10**17), "describes networks that cannot be built"),
    ],
)
def test_a_snapshot_that_is_damaged(run: Path, edit: Edit, finding: str) -> None:
    [snapshot] = (run / "snapshots").iterdir()
    reseal(snapshot, "snapshot.json", edited(snapshot / "snapshot.json", edit))
    with pytest.raises(UserError, match=finding):
        load(snapshot)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_marker_that_does_not_end(run: Path, make: Callable[[Path], None]) -> None:
    [snapshot] = (run / "snapshots").iterdir()
    (snapshot / MARKER).unlink()
    make(snapshot / MARKER)
    with pytest.warns(UserWarning, match="not a plain file"), pytest.raises(UserError, match="no complete snapshot"):
        load(run)


@pytest.mark.parametrize("content", [b"", b"x" * 100, (2**50).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_not_a_tensor_file(run: Path, content: bytes) -> None:
    [snapshot] = (run / "snapshots").iterdir()
    reseal(snapshot, "ema.safetensors", content)
    with pytest.raises(UserError, match="ema.safetensors .*; restore it from a copy"):
        load(snapshot, weights="ema")


def test_files_of_other_networks_and_optimizers(tmp_path: Path) -> None:
    save_module(nn.Linear(2, 3), tmp_path / "m.safetensors")
    for other in (nn.Linear(3, 2), nn.Conv2d(1, 1, 1), nn.Sequential(nn.Linear(2, 3))):
        with pytest.raises(DamagedFile, match="m.safetensors does not hold these networks .*; restore"):
            load_module(other, tmp_path / "m.safetensors")
    for content in (b"", b"PK\x03\x04" + b"x" * 50, b"\x80\x02."):
        (tmp_path / "s.pt").write_bytes(content)
        with pytest.raises(DamagedFile, match="s.pt cannot be read .*; restore"):
            load_state(tmp_path / "s.pt")
    torch.save({"path": Path("x")}, tmp_path / "s.pt")
    with pytest.raises(DamagedFile, match="s.pt cannot be read .*; restore"):
        load_state(tmp_path / "s.pt")


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda s: s.update(sampler="gauss"), "names no sampler 'gauss'|names no sampler .'gauss'."),
        (lambda s: s.update(latent_size=10**6), "describes [0-9,]+ bytes of weights"),
        (lambda s: s.update(config={"x": 1}), "x is not a field"),
        (lambda s: s.update(weights_sha256=5), "weights_sha256 should be a valid string, not 5"),
    ],
)
def test_a_sampler_that_is_damaged(run: Path, edit: Edit, finding: str) -> None:
    directory = run / "samplers" / "gaussian"
    reseal(directory, "sampler.json", edited(directory / "sampler.json", edit))
    with pytest.raises(UserError, match=f"sampler.json.*({finding})"):
        load(run, sampler="gaussian")


@pytest.mark.parametrize("content", [b"\xff", b"a: &a [*a]", b"seed: " + b"9" * 5000, b"- 1", b"a: [", b"a: !!int x"])
def test_a_config_that_is_damaged(run: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(DamagedFile, match="config.yaml (is not|does not hold a training config).*; restore"):
        read_config(run)
    if content != b"- 1":
        with pytest.raises((UserError, SystemExit)) as ended:
            parse_args(["vae", "--config", str(run / "config.yaml"), "--data", "d", "--run", "r"])
        assert "config.yaml is not" in str(ended.value) + capsys.readouterr().err
