"""The studio and the labeling page, over real connections: hostile requests, then a good one that must be answered."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from eval.studio.server.app import make_app
from eval.studio.studio import Studio
from shards.labeling.label_app import make_label_app
from shards.labeling.session import open_session
from shards.labeling.subjects import Labeling
from shards.serving.server import LOOPBACK, listen, make_server
from studio_hostile import HOSTILE_CALLS, HOSTILE_FILES, ODD_BUT_GOOD
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas.runs import OLD
from tests.campaigns.damage import changed, damaged, draw_bytes, draw_json

_ANSWER_SEC = 15.0
_LATENT = {"face": {"kind": "sample", "seed": 1}, "axes": {"0": 1.5}}
_REQUESTS: dict[str, list[tuple[str, str, Any]]] = {
    "studio": [
        ("POST", "/api/runs/run/picture", _LATENT),
        ("POST", "/api/runs/run/latent", {"face": {"kind": "data", "split": "test", "row": 1}}),
        (
            "POST",
            "/api/runs/run/morph",
            {"recipes": [_LATENT, {"face": {"kind": "sample", "seed": 2}}], "position": 0.5},
        ),
        ("POST", "/api/runs/run/neighbors", {"recipe": _LATENT, "size": 3}),
        ("POST", "/api/compare", {"runs": ["run"], "recipe": _LATENT}),
        ("GET", "/api/data/test?first=0&num=3", None),
        ("GET", "/api/data/test/0/picture", None),
        ("GET", "/api/trainings/run", None),
        ("GET", "/api/studio", None),
        ("GET", "/main.js", None),
    ],
    "label": [
        ("POST", "/api/answer", {"subject": "ann", "trial": 0, "smile": True, "rt_ms": 500.5}),
        ("POST", "/api/undo", {"subject": "ann"}),
        ("GET", "/api/state?subject=ann", None),
        ("GET", "/images/1", None),
        ("GET", "/label.js", None),
    ],
}
_PATHS = (
    "/../bait/secret", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/images/-1", "/images/99999999999999999999",
    "/images/%00", "*", "/images/1.png", "/api/state?subject=../../bait/x", "/api/state?subject=%00",
    "/api/state?subject=%ff", "/%ff%fe", "/" + "a" * 70_000, "/api/data/train?first=-1", "/api/data/train?num=1e9",
    "/api/trainings/..", "/api/trainings/run/curves/..%2fx", "http://evil/", "/?" * 999,
)  # fmt: skip
_HEADERS = (
    ("Content-Length", "-1"), ("Content-Length", "x"), ("Content-Length", "99999999999999999999"),
    ("Content-Length", "1"), ("Content-Length", "1000"), ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "gzip, chunked"), ("Host", "evil.example"), ("Host", ""), ("Origin", "http://["),
    ("Origin", "null"), ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"),
    ("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=x"), ("Content-Type", ""),
    ("Expect", "100-continue"), ("Upgrade", "websocket"), ("Connection", "upgrade"), ("Range", "bytes=5-1"),
    ("Accept-Encoding", "x" * 9000), ("X", "y" * 70_000), ("Authorization", "Basic ///"), ("Cookie", "\xff"),
    ("Content-Encoding", "gzip"), ("If-Modified-Since", "never"),
)  # fmt: skip


class Servers(Area):
    """A studio over an old run and a labeling of six pictures."""

    title = "label page, studio"
    uses = ("studio", "studio", "label")

    def __init__(self, home: Path, bait: Path) -> None:
        """Starts both."""
        super().__init__(home, bait)
        self.writes = (home,)
        images = home / "images"
        images.mkdir()
        for number in range(6):
            Image.new("RGB", (24, 24), (40 * number, 90, 200)).save(images / f"face{number}.png")
        session = open_session(home / "labeling", images, 0, 0.0)
        studio = Studio([str(OLD / "run")], str(OLD / "dataset"))
        for run in studio.runs.values():
            run.sliders.wait()
        apps = {"studio": make_app(studio), "label": make_label_app(Labeling(images, home / "labeling", session))}
        self._servers = {name: make_server(app) for name, app in apps.items()}
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # Each broken request is worth a warning.
        sockets = {name: listen(LOOPBACK, 0) for name in apps}
        self._ports = {name: listening.getsockname()[1] for name, listening in sockets.items()}
        for name, server in self._servers.items():
            threading.Thread(target=server.run, kwargs={"sockets": [sockets[name]]}, daemon=True).start()
        while not all(server.started for server in self._servers.values()):
            time.sleep(0.01)

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One or two requests."""
        return [self._draw_one(rng, use) for _ in range(rng.choice((1, 1, 2)))]

    def _draw_one(self, rng: random.Random, use: str) -> Change:
        number = rng.randrange(len(_REQUESTS[use]))
        method, path, body = _REQUESTS[use][number]
        how = rng.random()
        if use == "studio" and how < 0.1:
            return Change("file", "/api/uploads", rng.choice([*HOSTILE_FILES, *ODD_BUT_GOOD]))
        if use == "studio" and how < 0.2:
            return Change("call", "", rng.choice(list(HOSTILE_CALLS)))
        if how < 0.5 and body is not None:
            return Change("json", f"{method} {path}", [number, *draw_json(rng, "", body)[::2]])
        if how < 0.6:
            return Change("path", f"{method} {path}", [number, rng.choice(_PATHS)])
        if how < 0.8:
            return Change("header", f"{method} {path}", [number, *rng.choice(_HEADERS)])
        whole = _request(method, path, body, self._ports[use])
        change = draw_bytes(rng, "", len(whole))
        return Change(
            rng.choice(("bytes", "bytes", "unfinished")), f"{method} {path}", [number, change.kind, change.value]
        )

    def use(self, folder: Path, case: Case) -> dict[str, Any]:
        """Sends the requests, then a good one; returns the status of each and a digest of the last answer."""
        port = self._ports[case.use]
        statuses = [_status(_receive(port, self._bytes(case.use, change), change.kind)) for change in case.changes]
        method, path, body = _REQUESTS[case.use][0 if case.use == "studio" else 3]
        answer = _receive(port, _request(method, path, body, port), "good")
        head, _, content = answer.partition(b"\r\n\r\n")
        good = {"status": head.split(b" ", 2)[1:2], "content": hashlib.sha256(content).hexdigest()}
        return {"statuses": statuses, **good}

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """Every request has an answer that is not the server's fault, or a closed connection; the good one is right."""
        is_alive = {**found, "statuses": []} == {**good, "statuses": []}
        return is_alive and all(status is None or 100 <= status < 500 for status in found["statuses"])

    def close(self) -> None:
        """Stops both."""
        for server in self._servers.values():
            server.should_exit = True

    def _bytes(self, use: str, change: Change) -> bytes:
        port = self._ports[use]
        if change.kind == "file":
            content = {**HOSTILE_FILES, **ODD_BUT_GOOD}[change.value]()
            return _request("POST", change.where, content, port)
        if change.kind == "call":
            method, path, options = HOSTILE_CALLS[change.value]
            body = options.get("json", options.get("content"))
            return _request(method, path, body, port, list(options.get("headers", {}).items()))
        method, path, body = _REQUESTS[use][change.value[0]]
        if change.kind == "json":
            with suppress(KeyError, IndexError, TypeError, AttributeError):
                body = changed(copy.deepcopy(body), change.value[1], change.value[2])
            return _request(method, path, body, port)
        if change.kind == "path":
            return _request(method, change.value[1], body, port)
        if change.kind == "header":
            return _request(method, path, body, port, [tuple(change.value[1:])])
        return damaged(_request(method, path, body, port), *change.value[1:])


def _request(method: str, path: str, body: Any, port: int, headers: list[tuple[str, str]] | None = None) -> bytes:
    """A whole request; given headers replace those of their name."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "Content-Length": str(len(content))}
    lines |= dict(headers or [])
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{head}Connection: close\r\n\r\n".encode("latin-1", "replace") + content


def _status(answer: bytes) -> int | None:
    """The status of an answer; None where the server closed the connection, or the client did so first."""
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/") else None


def _receive(port: int, content: bytes, kind: str) -> bytes:
    """The answer to a request; one that may claim to be longer than it is ends with its bytes."""
    answer = bytearray()
    with socket.create_connection((LOOPBACK, port), timeout=_ANSWER_SEC) as client, suppress(ConnectionError):
        client.sendall(content)
        if kind == "unfinished":
            return b""
        if kind in ("header", "bytes", "call"):
            client.shutdown(socket.SHUT_WR)
        while part := client.recv(1 << 16):
            answer += part
    return bytes(answer)
