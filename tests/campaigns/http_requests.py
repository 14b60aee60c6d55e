"""Requests to the studio and the labeling page, good and hostile, over real connections."""

from __future__ import annotations

import copy
import json
import random
import socket
from contextlib import suppress
from typing import Any

from shards.serving.server import LOOPBACK
from studio_hostile import HOSTILE_CALLS, HOSTILE_FILES, ODD_BUT_GOOD
from tests.campaigns.area import Change
from tests.campaigns.damage import changed, damaged, draw_bytes, draw_json

_ANSWER_SEC = 15.0
_LATENT = {"face": {"kind": "sample", "seed": 1}, "axes": {"0": 1.5}}
REQUESTS: dict[str, list[tuple[str, str, Any]]] = {
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


def draw_request(rng: random.Random, use: str, port: int) -> Change:
    """A hostile request.

    Args:
        rng: Decides what is wrong with it.
        use: ``studio`` or ``label``.
        port: Of the server, which a request names.
    """
    number = rng.randrange(len(REQUESTS[use]))
    method, path, body = REQUESTS[use][number]
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
    whole = whole_request(method, path, body, port)
    change = draw_bytes(rng, "", len(whole))
    return Change(rng.choice(("bytes", "bytes", "unfinished")), f"{method} {path}", [number, change.kind, change.value])


def request_bytes(use: str, change: Change, port: int) -> bytes:
    """What ``draw_request`` drew, as it is sent."""
    if change.kind == "file":
        content = {**HOSTILE_FILES, **ODD_BUT_GOOD}[change.value]()
        return whole_request("POST", change.where, content, port)
    if change.kind == "call":
        method, path, options = HOSTILE_CALLS[change.value]
        body = options.get("json", options.get("content"))
        return whole_request(method, path, body, port, list(options.get("headers", {}).items()))
    method, path, body = REQUESTS[use][change.value[0]]
    if change.kind == "json":
        with suppress(KeyError, IndexError, TypeError, AttributeError):
            body = changed(copy.deepcopy(body), change.value[1], change.value[2])
        return whole_request(method, path, body, port)
    if change.kind == "path":
        return whole_request(method, change.value[1], body, port)
    if change.kind == "header":
        return whole_request(method, path, body, port, [tuple(change.value[1:])])
    return damaged(whole_request(method, path, body, port), *change.value[1:])


def whole_request(method: str, path: str, body: Any, port: int, headers: list[tuple[str, str]] | None = None) -> bytes:
    """A whole request; given headers replace those of their name."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "Content-Length": str(len(content))}
    lines |= dict(headers or [])
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{head}Connection: close\r\n\r\n".encode("latin-1", "replace") + content


def status_of(answer: bytes) -> int | None:
    """The status of an answer; None where the server closed the connection, or the client did so first."""
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/") else None


def receive(port: int, content: bytes, kind: str) -> bytes:
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
