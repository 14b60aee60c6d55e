"""Hours of the studio and the labeling page under good and hostile requests: their memory and their latency.

    python -m tests.benchmarks.serving_load [--minutes 120] [--rate 5] [--hostile 0.5]

Both are processes of their own, over the run and the data set of release 0.1. Requests go out at a fixed rate, whether
or not earlier ones were answered, and a latency counts from the moment when its request was due. The results are
written every minute, so that a shorter run counts, too; it states its length.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from shards.base.files import write_json
from shards.command_line.cli import parse, run
from studio_process import Started, page_process, studio_process
from tests.campaigns.http_requests import REQUESTS, draw_request, receive, request_bytes, status_of, whole_request

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "release_0_1"
_NUM_CLIENTS = 16
_MAX_FAILURES = 20
"""Failures of a run that are described."""
_WARM_UP = 5
"""Minutes whose memory does not count: caches fill."""


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    minutes: int = 120
    """Length of the run."""
    rate: float = 5.0
    """Requests a second, to both pages together."""
    hostile: float = 0.5
    """Share of hostile requests."""
    seed: int = 0
    """Seed of the requests."""
    out: Path = Path(__file__).parent / "results" / "serving_load.json"
    """File of the results."""


@dataclass
class Minute:
    """What happened to one page in one minute."""

    resident_mib: float
    threads: int
    open_files: int
    good: int
    """Good requests."""
    good_ms: list[float]
    """Their latency: median, 95 %, 99 %, longest."""
    hostile: int
    hostile_ms: list[float]
    failed: int
    """Good requests without a good answer, hostile ones that are the server's fault or have no answer in time."""


@dataclass
class _Counts:
    """Answers of the current minute, by page and kind; filled by the clients' threads."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Load:
    """Clients of both pages."""

    def __init__(self, servers: dict[str, Started], config: Config) -> None:
        """Sends nothing yet."""
        self._servers, self._config = servers, config
        self._ports = {page: urlsplit(server.address).port or 0 for page, server in servers.items()}
        self._rng = random.Random(config.seed)
        self._counts = _Counts()
        self.failures: list[str] = []

    def minute(self, clients: ThreadPoolExecutor) -> dict[str, Minute]:
        """Sends requests for a minute."""
        start = time.monotonic()
        for number in range(round(60 * self._config.rate)):
            due = start + number / self._config.rate
            time.sleep(max(0.0, due - time.monotonic()))
            page = self._rng.choice(list(self._servers))
            is_hostile = self._rng.random() < self._config.hostile
            clients.submit(self._ask, page, is_hostile, self._rng.getrandbits(32), due)
        time.sleep(max(0.0, start + 60 - time.monotonic()))
        counts, self._counts = self._counts, _Counts()
        self.failures += [text for texts in counts.failed.values() for text in texts]
        return {page: self._state(page, counts) for page in self._servers}

    def _ask(self, page: str, is_hostile: bool, seed: int, due: float) -> None:
        """One request, and whether its answer is right."""
        rng, port = random.Random(seed), self._ports[page]
        what, status = "", None
        try:
            if is_hostile:
                change = draw_request(rng, page, port)
                what = str(change)
                status = status_of(receive(port, request_bytes(page, change, port), change.kind))
                is_right = status is None or status < 500
            else:
                method, path, body = rng.choice(REQUESTS[page])
                what = f"{method} {path}"
                status = status_of(receive(port, whole_request(method, path, body, port), "good"))
                # 202: still being computed. 409: an answer or an undo at another one's turn.
                is_right = status in (200, 202) or (status == 409 and page == "label" and method == "POST")
        except Exception as error:
            is_right, status = False, f"{type(error).__name__}: {error}"
        self._counts.seconds[page, "hostile" if is_hostile else "good"].append(time.monotonic() - due)
        if not is_right:
            self._counts.failed[page].append(f"{page}, {what}: {status}")

    def _state(self, page: str, counts: _Counts) -> Minute:
        process = psutil.Process(self._servers[page].pid)
        good, hostile = counts.seconds[page, "good"], counts.seconds[page, "hostile"]
        return Minute(
            round(process.memory_info().rss / 2**20, 1),
            process.num_threads(),
            process.num_fds(),
            len(good),
            _latency_ms(good),
            len(hostile),
            _latency_ms(hostile),
            len(counts.failed[page]),
        )


def _latency_ms(seconds: list[float]) -> list[float]:
    found = np.percentile(seconds, (50, 95, 99, 100)) if seconds else []
    return [round(1000 * float(value), 1) for value in found]


@contextmanager
def _pages(folder: Path) -> Iterator[dict[str, Started]]:
    (folder / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (24, 24), (40 * number, 90, 200)).save(folder / "images" / f"face{number}.png")
    cache = {"FACEGEN_CACHE": str(folder / "cache")}
    label = ("serve", str(folder / "images"), str(folder / "labeling"), "--port", "0")
    with ExitStack() as running:
        yield {
            "studio": running.enter_context(studio_process(str(OLD / "run"), "--data", str(OLD / "dataset"), **cache)),
            "label": running.enter_context(page_process("shards.label", *label, **cache)),
        }


def _summary(minutes: list[dict[str, Minute]], page: str) -> dict[str, Any]:
    """Growth of the memory after the warm-up, and latencies over the run."""
    found = [minute[page] for minute in minutes]
    warm = [minute.resident_mib for minute in found[_WARM_UP:]]
    growth = 60 * float(np.polyfit(range(len(warm)), warm, 1)[0]) if len(warm) > 1 else None
    latencies = [minute.good_ms for minute in found if minute.good_ms]
    return {
        "resident_mib": [found[0].resident_mib, found[-1].resident_mib],
        "growth_mib_per_hour": None if growth is None else round(growth, 2),
        "good": sum(minute.good for minute in found),
        "hostile": sum(minute.hostile for minute in found),
        "failed": sum(minute.failed for minute in found),
        "good_ms": [round(float(value), 1) for value in np.median(latencies, axis=0)] if latencies else [],
        "longest_ms": max((times[-1] for times in latencies), default=None),
    }


def main() -> None:
    """Runs, prints a line a minute, and writes the results as they come."""
    config = parse(
        Config,
        prog="python -m tests.benchmarks.serving_load",
        description=__doc__ or "",
        args=sys.argv[1:] or [f"--minutes={Config.minutes}"],  # Without arguments the parser would print its help.
    )
    minutes: list[dict[str, Minute]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _pages(Path(folder)) as servers,
        ThreadPoolExecutor(_NUM_CLIENTS) as clients,
    ):
        load = Load(servers, config)
        for number in range(1, config.minutes + 1):
            minutes.append(load.minute(clients))
            content = {
                "command": " ".join(["python -m tests.benchmarks.serving_load", *sys.argv[1:]]),
                "minutes": number,
                "rate": config.rate,
                "hostile": config.hostile,
                "machine_load": round(os.getloadavg()[0], 1),
                **{page: _summary(minutes, page) for page in servers},
                "failures": load.failures[:_MAX_FAILURES],
                "each_minute": [{page: asdict(state) for page, state in minute.items()} for minute in minutes],
            }
            write_json(config.out, content, durable=False)
            told = (
                f"{page} {m.resident_mib} MiB, {m.good_ms} ms, {m.failed} failed" for page, m in minutes[-1].items()
            )
            print(f"minute {number}: {'; '.join(told)}", flush=True)
    if load.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
