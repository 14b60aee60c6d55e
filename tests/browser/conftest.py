"""A browser for the tests in this folder, and studios that run as real processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_MS = 240_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is on the path; install one to see pages in a browser")
    # Chromium does not start as root inside its sandbox, and opens our own page only. The camera is no real one.
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=options, timeout=TIMEOUT_MS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def start_studio() -> Iterator[Callable[..., str]]:
    """Starts ``python -m eval.studio`` and returns its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> str:
        command = [sys.executable, "-m", "eval.studio", *arguments, "--port", "0", "--open_browser", "false"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )
        processes.append(process)
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                # What it prints from now on must not fill the pipe.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return found[0]
        raise AssertionError(f"the studio did not start: {''.join(seen)}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=60)
