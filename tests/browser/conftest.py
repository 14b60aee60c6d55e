"""Studios as separate processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from studio_process import studio_process


@pytest.fixture(scope="session")
def start_studio() -> Iterator[Callable[..., str]]:
    """Starts a studio and returns its address; stops all at the end."""
    with ExitStack() as running:
        yield lambda *arguments, **variables: running.enter_context(studio_process(*arguments, **variables)).address
