"""Packing and fetching on a disk that fails at each of their changes in turn."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from failing_disk import fail_at_every_change
from file_server import serving
from shards.base.errors import UserError
from shards.fetch import PUBLISHED, FetchConfig, fetch
from shards.packing.pack import pack
from shards.sources.base import Published, PublishedFile

FULL_OR_BROKEN = (errno.ENOSPC, errno.EIO, errno.EROFS)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_packing(tmp_path: Path, step: int) -> None:
    for number in range(12):
        path = tmp_path / "images" / f"person{number % 6}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    (tmp_path / "images" / "bad.jpg").write_text("x")

    def command(folder: Path) -> None:
        options = {"size": 8, "samples_per_shard": 8, "workers": 1, "max_skipped_fraction": 0.2}
        pack("folder", tmp_path / "images", folder / "out", subfolders="identity", **options)

    failed = fail_at_every_change(
        tmp_path / "runs", FULL_OR_BROKEN, command, lambda folder: files(folder / "out"), (UserError,), step
    )
    assert len(failed) * step > 60
    if step == 1:
        assert {change.split()[0] for change in failed} >= {"mkdir", "open", "write", "fsync", "replace"}
        assert all(any(name in change for change in failed) for name in ("plan.json", "index", "dataset.json"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("faces/a.txt", "faces/b/c.txt"):
            file.writestr(name, name)
    published = tuple(PublishedFile(name, "") for name in ("faces.zip", "pairs.txt"))
    monkeypatch.setitem(PUBLISHED, "lfw", Published("lfw", published, "tests"))
    with serving("") as running:
        running.files |= {"/faces.zip": archive.getvalue(), "/pairs.txt": b"10 300"}
        yield running


def test_fetching(tmp_path: Path, server: Any) -> None:
    def command(folder: Path) -> None:
        fetch(FetchConfig("lfw", folder / "faces", mirror=server.url))

    failed = fail_at_every_change(
        tmp_path / "runs", FULL_OR_BROKEN, command, lambda folder: files(folder / "faces"), (UserError,)
    )
    assert any(".part" in change for change in failed) and any("fetched.json" in change for change in failed)
