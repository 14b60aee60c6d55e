"""The studio as a process of its own: what it listens to, and what does not break it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from studio_hostile import SEED, attack
from studio_process import Started, studio_process
from studio_runs import pixels_of
from tiny_runs import untrained_run

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("server") / "vae", tiny_dataset)


@pytest.fixture(scope="module")
def started(run: Path, tiny_dataset: Path) -> Iterator[Started]:
    with studio_process(str(run), "--data", str(tiny_dataset), FACEGEN_CACHE=str(run.parent / "cache")) as process:
        yield process


def is_alive(address: str) -> bool:
    response = httpx.post(f"{address}api/runs/vae/picture", json={"face": SEED}, timeout=60)
    return response.status_code == 200 and pixels_of(response.content).shape == (16, 16, 3)


def test_it_survives_hostile_files_and_calls(started):
    attack(started.address)
    assert is_alive(started.address)


def test_garbage_instead_of_a_request(started):
    place = urlsplit(started.address)
    address = (place.hostname, place.port)
    for garbage in (
        b"\x00" * 4096,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ):
        # The studio may cut the connection before all is sent.
        with (
            suppress(ConnectionError),
            socket.create_connection(address, timeout=30) as connection,
        ):
            connection.sendall(garbage)
            with suppress(OSError):  # "Not connected" is not a ConnectionError.
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert is_alive(started.address)


def test_it_listens_on_this_machine_only(started):
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address by name")
    with pytest.raises(OSError):
        socket.create_connection((own, urlsplit(started.address).port or 80), timeout=5)


def test_shared_it_listens_everywhere_and_asks_for_the_password(run):
    with studio_process(str(run), "--share", FACEGEN_STUDIO_PASSWORD=PASSWORD) as shared:
        assert httpx.get(f"{shared.address}api/studio", timeout=60).status_code == 401
        assert httpx.get(f"{shared.address}api/studio", auth=("me", PASSWORD), timeout=60).status_code == 200
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("0.0.0.0", urlsplit(shared.address).port or 80))
