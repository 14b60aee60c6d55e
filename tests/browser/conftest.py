"""A browser for the tests in this folder, and studios that run as real processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from studio_process import studio_process

TIMEOUT_MS = 240_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is on the path; install one to see pages in a browser")
    # Chromium does not start as root inside its sandbox, and it opens our own page only. The camera is no real one.
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=options, timeout=TIMEOUT_MS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def start_studio() -> Iterator[Callable[..., str]]:
    """Starts a studio and returns its address."""
    with ExitStack() as running:
        yield lambda *arguments, **variables: running.enter_context(studio_process(*arguments, **variables)).address
