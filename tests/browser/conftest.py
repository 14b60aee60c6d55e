"""Studios that run as real processes, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from studio_process import studio_process


@pytest.fixture(scope="session")
def start_studio() -> Iterator[Callable[..., str]]:
    """Starts a studio and returns its address."""
    with ExitStack() as running:
        yield lambda *arguments, **variables: running.enter_context(studio_process(*arguments, **variables)).address
