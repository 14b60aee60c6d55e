"""The README's quick start, line by line, in an empty folder."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from documents import ROOT, section, shell_lines

SERVERS = {"tensorboard": "http://localhost:6006/", "eval.studio": "http://127.0.0.1:7860/"}
WITHIN_SEC = 120


@pytest.mark.slow
def test_the_quick_start_of_the_readme_runs(tmp_path: Path) -> None:
    for room in ("shards", "facegen", "eval", "tuning", "jobs"):
        (tmp_path / room).symlink_to(ROOT / room)
    lines = shell_lines(section(ROOT / "README.md", "## Quick start"))
    assert len(lines) == 5
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for words in lines:
        server = next((address for name, address in SERVERS.items() if name in words), None)
        if server is None:
            subprocess.run(words, cwd=tmp_path, env=environment, check=True)
        else:
            check_server(words, server, tmp_path, environment)
    assert (tmp_path / "report" / "report.html").stat().st_size > 100_000


def check_server(words: tuple[str, ...], address: str, folder: Path, environment: dict[str, str]) -> None:
    """Starts a server, waits for its page, and stops it."""
    process = subprocess.Popen(words, cwd=folder, env=environment)
    try:
        deadline = time.monotonic() + WITHIN_SEC
        while not answers(address):
            assert process.poll() is None, f"{shlex.join(words)} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"nothing at {address}"
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=WITHIN_SEC)


def answers(address: str) -> bool:
    """Whether a page is served at an address."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False
