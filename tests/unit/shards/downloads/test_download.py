"""Downloads that break off, change or return something else, against a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from file_server import CONTENT, serving
from shards.base.errors import UserError
from shards.downloads.download import download, is_web_page

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Any]:
    with serving("weights.pt") as running:
        yield running


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_an_interrupted_download_resumes(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    server.stops_after = 30_000
    with pytest.raises(UserError, match="received 30,000 of 102,400 bytes.*rerun to resume"):
        download(server.url, path, SHA256)
    assert not path.exists()
    server.stops_after = None
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-"] and server.sent == [102_400, 72_400]
    assert names(tmp_path) == {"weights.pt"}


def test_a_changed_file_is_downloaded_anew(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    server.stops_after = 30_000
    with pytest.raises(UserError):
        download(server.url, path, None)
    server.content, server.etag, server.stops_after = CONTENT[::-1], '"v2"', None
    download(server.url, path, None)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_part_longer_than_the_file_is_dropped(server: Any, tmp_path: Path) -> None:
    (tmp_path / ".weights.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / ".weights.pt.etag").write_text(server.etag)
    download(server.url, tmp_path / "weights.pt", SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_without_a_version_a_download_does_not_resume(server: Any, tmp_path: Path) -> None:
    server.etag, server.stops_after = "", 30_000
    with pytest.raises(UserError, match="received 30,000 of"):
        download(server.url, tmp_path / "weights.pt", SHA256)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_web_page_instead_of_the_file_is_refused(server: Any, tmp_path: Path, sha256: str | None) -> None:
    server.content = b"\n<!DOCTYPE html>\n<html><body>Please log in.</body></html>"
    with pytest.raises(UserError, match="web page instead of the file"):
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
    with pytest.raises(UserError, match=f"its sha256 is {SHA256}, not {'0' * 64}"):
        download(server.url, tmp_path / "weights.pt", "0" * 64)
    assert names(tmp_path) == set()


def test_a_date_is_enough_to_resume(server: Any, tmp_path: Path) -> None:
    server.etag, server.modified, server.stops_after = "", "Wed, 21 Oct 2015 07:28:00 GMT", 30_000
    with pytest.raises(UserError, match="rerun to resume"):
        download(server.url, tmp_path / "weights.pt", SHA256)
    server.stops_after = None
    download(server.url, tmp_path / "weights.pt", SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT and server.sent == [102_400, 72_400]


def test_an_md5_is_checked(server: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its md5 is .*, not 0000"):
        download(server.url, tmp_path / "weights.pt", None, md5="0" * 32)
    download(server.url, tmp_path / "weights.pt", None, md5=hashlib.md5(CONTENT).hexdigest())
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
