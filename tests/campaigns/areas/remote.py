"""Data sets behind an address, downloads and archives: hostile files, and servers that lie, stall, or break off."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import random
import shutil
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from shards.dataset import addresses
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE
from shards.downloads.download import download
from shards.downloads.unpacking import unpack
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas.data_sets import SIGN, pack_small, read_everything, sign
from tests.campaigns.damage import draw_bytes, draw_json, make

_FAULTS = (
    "cut", "longer", "half", "empty", "503", "404", "403", "416", "302 to itself", "302 to a file", "no length",
    "wrong length", "negative length", "html", "gzip", "garbage", "ignores ranges", "wrong range", "closes",
    "unending", "many headers",
)  # fmt: skip
_ENTRY_NAMES = (
    "../bait/x", "/tmp/campaign-absolute", "a/../../bait/x", "..", ".", "", "a\\..\\..\\bait\\x", "a" * 300,
    "/".join("d" * 300), "\udcff", "a\0b", "C:\\x", "//bait/x", "./a", "a/", "a//b", "aux", "\u202e", "x" * 5000,
    "../bait/secret", "images", "images/face.png",
)  # fmt: skip
_ENTRY_KINDS = ("file", "file", "folder", "link", "hard link", "pipe", "device", "sparse", "twice", "long link")
_ARCHIVES = ("good.tar", "good.tar.gz", "good.zip")
_UNENDING_BYTES = 64 << 20


class Remote(Area):
    """A small data set behind a server, and archives of three images."""

    title = "data sets behind an address, downloads, archives"
    uses = ("address", "address", "download", *_ARCHIVES)
    max_mib = 320
    """An answer of 64 MiB as bytes and as text, and what malloc keeps of freed memory in a process that has trained."""

    def __init__(self, home: Path, bait: Path) -> None:
        """Starts the server, and makes the archives."""
        super().__init__(home, bait)
        self._manifest = json.loads((pack_small(home / "data") / DATASET_FILE).read_text())
        self._files = [path.name for path in (home / "data").iterdir()]
        self._entries = [(f"images/face{number}.png", bytes([number]) * 5000) for number in range(3)]
        for name in _ARCHIVES:
            (home / name).write_bytes(_archive(name, self._entries, []))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """Faults of the server or changes of its files; entries or bytes of archives."""
        if use in _ARCHIVES:
            if rng.random() < 0.6:
                return [
                    Change("entry", rng.choice(_ENTRY_KINDS), rng.choice(_ENTRY_NAMES))
                    for _ in range(rng.choice((1, 2)))
                ]
            return [draw_bytes(rng, use, (self.home / use).stat().st_size) for _ in range(rng.choice((1, 3)))]
        if use == "download":
            return [Change("fault", "good.zip", rng.choice(_FAULTS)) for _ in range(rng.choice((1, 2)))]
        file = rng.choice((DATASET_FILE, DATASET_FILE, INDEX_FILE, *self._files))
        if rng.random() < 0.5:
            return [Change("fault", file, rng.choice(_FAULTS))]
        if file == DATASET_FILE:
            return [draw_json(rng, file, self._manifest), *[SIGN] * (rng.random() < 0.5)]
        return [draw_bytes(rng, file, (self.home / "data" / file).stat().st_size)]

    def use(self, folder: Path, case: Case) -> Any:
        """Reads the data set, downloads a file, or unpacks an archive."""
        served = Path(shutil.copytree(self.home / "data", folder / "served"))
        shutil.copy(self.home / "good.zip", served)
        for change in case.changes:
            if change == SIGN:
                sign(served)
            elif change.kind not in ("fault", "entry"):
                make(change, folder if case.use in _ARCHIVES else served)
        if case.use in _ARCHIVES:
            return self._unpack(folder, case)
        faults = [(change.where, change.value) for change in case.changes if change.kind == "fault"]
        with _serving(self._server, served, faults) as address, mock.patch.object(addresses, "_FIRST_DELAY_SEC", 0.001):
            if case.use == "address":
                return read_everything(address)
            out = folder / "out" / "good.zip"
            sha256 = hashlib.sha256((self.home / "good.zip").read_bytes()).hexdigest()
            download(f"{address}/good.zip", out, sha256, timeout_sec=2.0)
            return hashlib.sha256(out.read_bytes()).hexdigest()

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """The same files; an archive or a data set with other content but a name of its own is another one."""
        if case.use == "address":
            return found == good or found["fingerprint"] != good["fingerprint"] or SIGN in case.changes
        return found == good or case.use in _ARCHIVES

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()

    def _unpack(self, folder: Path, case: Case) -> Any:
        archive, out = folder / case.use, folder / "out"
        entries = [(change.where, change.value) for change in case.changes if change.kind == "entry"]
        archive.write_bytes(_archive(case.use, self._entries, entries))
        for change in case.changes:
            if change.kind != "entry":
                make(change, folder)
        out.mkdir()
        unpack(archive, out)
        for path in out.rglob("*"):
            assert path.is_dir() or (path.is_file() and not path.is_symlink()), f"{path} is neither a file nor a folder"
        return {str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*") if path.is_file()}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, each file with its faults; the last one stays."""

    folder = Path()
    faults: dict[str, list[str]] = {}
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            return self._answer(404, b"", {})
        faults = self.faults.get(path.name, [])
        fault = faults.pop(0) if len(faults) > 1 else (faults or [""])[0]
        with suppress(ConnectionError, socket.timeout):
            self._answer_with(fault, path.read_bytes())

    def _answer_with(self, fault: str, content: bytes) -> None:
        if fault.isdigit():
            return self._answer(int(fault), b"", {})
        if fault == "closes":
            self.close_connection = True
            return None
        if fault.startswith("302"):
            return self._answer(302, b"", {"Location": self.path if "itself" in fault else "file:///etc/passwd"})
        if fault == "many headers":
            return self._answer(200, content, {f"X-{number}": "y" * 500 for number in range(200)})
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and fault != "ignores ranges":
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start or 0), min(int(stop or len(content) - 1), len(content) - 1)
            where = f"bytes {first + (fault == 'wrong range')}-{last}/{len(content)}"
            return self._answer(206, _spoilt(fault, content[first : last + 1]), {"Content-Range": where}, fault)
        return self._answer(200, _spoilt(fault, content), {"ETag": '"v1"', "Accept-Ranges": "bytes"}, fault)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], fault: str = "") -> None:
        lengths = {
            "no length": None,
            "unending": None,
            "wrong length": len(body) + 1000,
            "negative length": -1,
            "half": 2 * len(body),
        }
        length = lengths.get(fault, len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            for _ in range(_UNENDING_BYTES >> 20 if fault == "unending" else 0):
                self.wfile.write(bytes(1 << 20))

    def log_message(self, *args: Any) -> None:
        pass


def _spoilt(fault: str, content: bytes) -> bytes:
    changed = {
        "cut": content[:-1], "longer": content + b"x", "half": content[: len(content) // 2], "empty": b"",
        "html": b"<!doctype html><title>log in</title>", "garbage": b"\xff" * len(content),
    }  # fmt: skip
    return changed.get(fault, content)


@contextmanager
def _serving(server: http.server.HTTPServer, folder: Path, faults: list[tuple[str, str]]) -> Iterator[str]:
    _Handler.folder = folder
    _Handler.faults = {}
    for file, fault in faults:
        _Handler.faults.setdefault(file, []).append(fault)
    yield f"http://127.0.0.1:{server.server_port}"


def _archive(name: str, entries: list[tuple[str, bytes]], odd: list[tuple[str, str]]) -> bytes:
    """An archive of good entries, and then of odd ones: their kind and name."""
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for entry, data in entries:
                file.writestr(entry, data)
            for kind, entry in odd:
                _add_to_zip(file, kind, entry)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz" if name.endswith("gz") else "w", format=tarfile.PAX_FORMAT) as tar:
        for entry, data in entries:
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind, entry in odd:
            _add_to_tar(tar, kind, entry)
    return buffer.getvalue()


def _add_to_tar(tar: tarfile.TarFile, kind: str, name: str) -> None:
    info = tarfile.TarInfo(name.replace("\0", "0"))
    kinds = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}
    kinds |= {"device": tarfile.CHRTYPE, "long link": tarfile.SYMTYPE}
    info.type = kinds.get(kind, tarfile.REGTYPE)
    info.linkname = "../../bait/secret" if kind != "long link" else "x" * 5000
    for _ in range(2 if kind == "twice" else 1):
        info.size = 10 if info.isreg() else 0
        tar.addfile(info, io.BytesIO(bytes(10)))


def _add_to_zip(file: zipfile.ZipFile, kind: str, name: str) -> None:
    info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode().replace("\0", "0"))
    modes = {"folder": 0o040755, "link": 0o120777, "pipe": 0o010644, "device": 0o020644}
    info.external_attr = modes.get(kind, 0o100644) << 16
    info.compress_type = zipfile.ZIP_LZMA if kind == "sparse" else zipfile.ZIP_DEFLATED
    for _ in range(2 if kind == "twice" else 1):
        file.writestr(info, "../bait/secret" if kind == "link" else bytes(10))
