"""Files behind an address that are read like local ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import unreliable_server
from shards.base.errors import UserError
from shards.dataset.addresses import RemoteFolder
from shards.dataset.remote_file import RemoteFile
from shards.dataset.tar import read_samples_of
from unreliable_server import Handler

CONTENT = random.Random(0).randbytes(50_000)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    unreliable_server.retry_at_once(monkeypatch)
    (tmp_path / "file.tar").write_bytes(CONTENT)
    with unreliable_server.serving(tmp_path) as running:
        yield running


def opened(server: type[Handler], ahead_bytes: int = 0) -> RemoteFile:
    return RemoteFile(RemoteFolder(server.url), "file.tar", len(CONTENT), ahead_bytes)


@pytest.mark.parametrize("ahead_bytes", [0, 1_000])
def test_any_reads_are_those_of_a_local_file(server: type[Handler], tmp_path: Path, ahead_bytes: int) -> None:
    generator = random.Random(ahead_bytes)
    with opened(server, ahead_bytes) as remote, open(tmp_path / "file.tar", "rb") as local:
        for _ in range(60):
            offset, whence = generator.choice(
                [(generator.randrange(60_000), 0), (-generator.randrange(40_000), 2), (0, 1)]
            )
            assert remote.seek(offset, whence) == local.seek(offset, whence)
            num_bytes = generator.choice([0, 1, 512, 3_000, 100_000])
            assert remote.read(num_bytes) == local.read(num_bytes)
            assert remote.tell() == local.tell()


def test_only_what_is_read_is_asked_for(server: type[Handler]) -> None:
    file = opened(server)
    file.seek(1_000)
    assert file.read(2_000) == CONTENT[1_000:3_000]
    assert server.sent["file.tar"] == 2_000 and len(server.requests) == 1


def test_small_reads_share_requests_and_look_back_across_parts(server: type[Handler]) -> None:
    file = opened(server, ahead_bytes=10_000)
    for start in range(0, 50_000, 500):
        file.seek(max(0, start - 3_000))
        file.read(100)
        file.seek(start)
        assert file.read(500) == CONTENT[start : start + 500]
    assert len(server.requests) == 5 and server.sent["file.tar"] == 50_000


def test_failures_are_retried_and_then_named(server: type[Handler]) -> None:
    server.faults += ["busy", "breaks off", "short"]
    assert opened(server).read(100) == CONTENT[:100]
    server.always = "busy"
    with pytest.raises(UserError, match="file.tar could not be read in 6 tries"):
        next(read_samples_of(opened(server), "file.tar"))
