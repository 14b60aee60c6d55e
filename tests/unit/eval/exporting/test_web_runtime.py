"""onnxruntime-web: downloaded once and checked, or taken from an archive or a folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.exporting import web_runtime as module
from eval.exporting.web_runtime import ARCHIVE, WebRuntime, web_runtime
from file_server import serving
from shards.base.errors import UserError

FILES = {"dist/ort.wasm.bundle.min.mjs": b"export {};", "dist/ort-wasm-simd-threaded.wasm": b"\0asm" * 5000}
WANTED = WebRuntime(*FILES.values())


def package(names: dict[str, bytes]) -> bytes:
    """An archive as ``npm pack`` writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with serving(ARCHIVE) as handler:
        handler.content = package(FILES)
        monkeypatch.setattr(module, "URL", handler.url)
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(handler.content).hexdigest())
        monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
        yield handler


def test_it_is_downloaded_once(server: Any, tmp_path: Path) -> None:
    assert web_runtime(None) == web_runtime(None) == WANTED
    assert len(server.ranges) == 1
    assert [path.name for path in (tmp_path / "cache" / "web_runtime").glob("[!.]*")] == [ARCHIVE]


def test_another_file_is_refused(server: Any, tmp_path: Path) -> None:
    server.content = package({**FILES, "dist/ort.wasm.bundle.min.mjs": b"steal();"})
    with pytest.raises(UserError, match="its sha256 is .*npm pack onnxruntime-web@.* --web_runtime onnxruntime-web-"):
        web_runtime(None)
    assert not (tmp_path / "cache" / "web_runtime" / ARCHIVE).exists()


@pytest.mark.parametrize("above", ["", "package"])
def test_a_folder_is_taken(above: str, tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / "unpacked" / above / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert web_runtime(tmp_path / "unpacked") == WANTED


def test_an_archive_is_taken(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE).write_bytes(package(FILES))
    assert web_runtime(tmp_path / ARCHIVE) == WANTED


@pytest.mark.parametrize(
    "content",
    [None, b"no archive", package({}), package(FILES)[:100], package({name: b"" for name in [*FILES][:1]})],
    ids=["missing", "text", "empty", "truncated", "one file"],
)
def test_anything_else_is_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "given.tgz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"given\.tgz is not the npm package onnxruntime-web \(.+\); download it elsewhere"
    ):
        web_runtime(path)
