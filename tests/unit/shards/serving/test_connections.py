"""Clients that keep a served page waiting, over real connections: each is dropped, and others are answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from shards.serving import connections
from shards.serving.server import LOOPBACK, listen, make_server
from shards.serving.web_app import guarded_app

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
LARGE = 20_000_000


@contextmanager
def served(password: str | None = None) -> Iterator[tuple[str, int]]:
    """A page on a free port of this machine."""
    app = guarded_app("test", password=password)
    app.add_api_route("/", lambda: {"is": "here"})
    app.add_api_route("/large", lambda: {"is": "x" * LARGE})
    app.add_api_route("/slow", lambda: time.sleep(1.0))
    listening = listen(LOOPBACK, 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def is_dropped(connection: socket.socket, seconds: float = 10) -> bool:
    """Whether the server closes a connection within some time."""
    connection.settimeout(seconds)
    try:
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    except TimeoutError:
        return False
    return True


def answers(address: tuple[str, int], path: str = "/", **options: object) -> int:
    return httpx.get(f"http://{address[0]}:{address[1]}{path}", timeout=20, **options).status_code  # type: ignore[arg-type]


@pytest.mark.parametrize("beginning", [b"", HEAD, POST, POST + b"{"])
def test_a_request_that_never_ends_is_dropped(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAITING_SECONDS", 0.4)
    with served(password="correct horse") as address, socket.create_connection(address) as connection:
        connection.sendall(beginning)
        assert is_dropped(connection)


def test_bytes_that_trickle_do_not_set_the_clock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAITING_SECONDS", 0.5)
    with served() as address, socket.create_connection(address) as connection:
        end = time.monotonic() + 10
        with pytest.raises(ConnectionError):
            connection.sendall(HEAD)
            while time.monotonic() < end:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)


def test_an_answer_that_is_never_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[Exception | None] = []
    lost = connections.ImpatientProtocol.connection_lost

    def noted(protocol: connections.ImpatientProtocol, error: Exception | None) -> None:
        dropped.append(error)
        lost(protocol, error)

    monkeypatch.setattr(connections.ImpatientProtocol, "connection_lost", noted)
    monkeypatch.setattr(connections, "WAITING_SECONDS", 0.4)
    with served() as address, socket.create_connection(address) as connection:
        connection.sendall(HEAD.replace(b"/ ", b"/large ") + b"\r\n")
        received = len(connection.recv(1))  # The answer has begun.
        end = time.monotonic() + 20
        while not dropped and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                received += len(part)
        assert dropped and received < LARGE


def test_a_slow_answer_and_a_slow_reader_are_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAITING_SECONDS", 0.8)
    with served() as address:
        assert answers(address, "/slow") == 200
        with socket.create_connection(address) as connection:
            connection.sendall(HEAD.replace(b"/ ", b"/large ") + b"\r\n")
            received = 0
            while received < LARGE:
                part = connection.recv(1 << 20)
                assert part, f"dropped after {received} bytes"
                received += len(part)
                time.sleep(0.05)


def test_those_who_wait_leave_room_for_others_before_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_WAITING", 8)
    with served(password="correct horse") as address:
        held = [socket.create_connection(address) for _ in range(300)]
        try:
            for connection in held:
                connection.sendall(HEAD)
            assert answers(address, auth=("me", "correct horse")) == 200
            assert answers(address) == 401
            assert is_dropped(held[0])
        finally:
            for connection in held:
                connection.close()
