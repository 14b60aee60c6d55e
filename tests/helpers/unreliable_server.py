"""A web server over a folder that supports byte ranges and can be told to fail."""

from __future__ import annotations

import http.server
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from shards.dataset import addresses

Fault = Literal["breaks off", "short", "corrupt", "busy", "whole", "forbidden", "endless"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``folder``; each request for a ``failing`` file uses up the next of ``faults``, then ``always``."""

    folder: Path
    url = ""
    faults: list[Fault] = []
    always: Fault | None = None
    failing = ".tar"
    requests: list[str] = []
    sent: Counter[str] = Counter()
    """Bytes by file."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        fault = (self.faults.pop(0) if self.faults else self.always) if path.suffix == self.failing else None
        if self.command == "GET":
            type(self).requests.append(path.name)
        if not path.is_file():
            return self.send_error(404)
        if fault in ("busy", "forbidden"):
            return self.send_error(503 if fault == "busy" else 403)
        num_bytes = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        is_part = wanted is not None and fault != "whole"
        start, stop = (int(wanted[1]), int(wanted[2] or num_bytes - 1) + 1) if is_part else (0, num_bytes)
        with open(path, "rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        if fault == "endless":
            return self.send_endless()
        if fault == "corrupt":
            body = bytes([body[0] ^ 255]) + body[1:]
        if fault == "short":
            body = body[: len(body) // 2]
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{num_bytes}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.sent[path.name] += len(body)
            self.wfile.write(body[: len(body) // 2] if fault == "breaks off" else body)
        if fault == "breaks off":
            self.close_connection = True

    def send_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        if self.command == "GET":
            with suppress(ConnectionError):
                while True:
                    self.wfile.write(bytes(1 << 16))

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[type[Handler]]:
    """Runs a server and yields its handler class, whose attributes may be changed."""

    class Mine(Handler):
        faults: list[Fault] = []
        requests: list[str] = []
        sent: Counter[str] = Counter()

    Mine.folder = folder
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as running:
        Mine.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield Mine
        running.shutdown()


def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the delays before a request is repeated, for one test."""
    monkeypatch.setattr(addresses, "_FIRST_DELAY_SEC", 0.001)
    monkeypatch.setattr(addresses, "_MAX_DELAY_SEC", 0.002)
