"""A web server for tests of downloads: it breaks off, changes its file or answers with a page."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONTENT = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one content, or ``files`` by path; the connection breaks off after ``stops_after`` bytes.

    ``moved`` holds paths that redirect, as a host does whose files lie in an object store.
    """

    content, etag, stops_after = CONTENT, '"v1"', None
    modified = ""
    url = ""
    files: dict[str, bytes] = {}
    moved: dict[str, str] = {}
    ranges: list[str | None] = []
    sent: list[int] = []

    def do_GET(self) -> None:
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
            return
        if self.files and self.path not in self.files:
            self.send_error(404)
            return
        content = self.files.get(self.path, self.content)
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = 0
        if wanted and self.headers.get("If-Range") == (self.etag or self.modified):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if start >= len(content):
                self.send_error(416)
                return
        body = content[start:]
        type(self).sent.append(len(body))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.etag:
            self.send_header("ETag", self.etag)
        if self.modified:
            self.send_header("Last-Modified", self.modified)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.stops_after])

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(name: str) -> Iterator[Any]:
    """Runs a server and yields its handler class, whose attributes may be changed; ``url`` ends with ``name``."""

    class Mine(Handler):
        ranges: list[str | None] = []
        sent: list[int] = []
        files: dict[str, bytes] = {}
        moved: dict[str, str] = {}

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as running:
        Mine.url = f"http://127.0.0.1:{running.server_port}/{name}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield Mine
        running.shutdown()
