"""Errors of the machine are tried again; errors of a file are not."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from shards.base import retrying
from shards.base.errors import UserError
from shards.base.retrying import persistently


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_PAUSES_SEC", (0.0, 0.0, 0.0))


def failing(num_times: int, error: Exception) -> Callable[[], str]:
    errors = [error] * num_times

    def attempt() -> str:
        if errors:
            raise errors.pop()
        return "read"

    return attempt


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O"), OSError(errno.ESTALE, "stale"), MemoryError()])
def test_a_passing_error_is_tried_again(error: Exception) -> None:
    assert persistently("a.jpg", failing(3, error)) == "read"
    with pytest.raises(UserError, match=r"a.jpg could not be read in 4 tries \(.+\); rerun"):
        persistently("a.jpg", failing(4, error))


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "none"), ValueError("x"), OSError("truncated")])
def test_an_error_of_the_file_comes_through_at_once(error: Exception) -> None:
    attempt = failing(1, error)
    with pytest.raises(type(error)):
        persistently("a.jpg", attempt)
    assert attempt() == "read"
