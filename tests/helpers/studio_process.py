"""A page, such as the studio's, served by a separate process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

STOP_SEC = 60


class Started(NamedTuple):
    """A running server."""

    address: str
    """With a slash at the end."""
    pid: int

    def resident_mib(self) -> float:
        """Resident memory of the process, in MiB (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def studio_process(*arguments: str, **variables: str) -> AbstractContextManager[Started]:
    """Runs ``python -m eval.studio`` on a free port until the block ends."""
    return page_process("eval.studio", *arguments, "--port", "0", "--open_browser", "false", **variables)


@contextmanager
def page_process(module: str, *arguments: str, **variables: str) -> Iterator[Started]:
    """Runs a command that prints the address of the page that it serves, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )
    assert process.stdout is not None
    try:
        yield Started(_address(process), process.pid)
    finally:
        process.terminate()
        process.wait(timeout=STOP_SEC)
        process.stdout.close()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            # Otherwise later output would fill the pipe and block the server.
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return found[0]
    raise AssertionError(f"the server did not start: {''.join(seen)}")


def _drain(stream: object) -> None:
    for _ in stream:  # type: ignore[attr-defined]
        pass
