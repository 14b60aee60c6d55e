"""Bounds on time and memory: each compares two measurements of one run, so that they hold on any machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

RESULTS = pytest.StashKey[list["Result"]]()


@dataclass(frozen=True)
class Result:
    """One bound, and what was measured."""

    what: str
    value: float
    at_most: float


class Bounds:
    """Asserts bounds and keeps what was measured."""

    def __init__(self, results: list[Result]) -> None:
        """Appends to ``results``."""
        self._results = results

    def __call__(self, what: str, value: float, at_most: float) -> None:
        """Asserts that a measurement, usually a ratio, is at most its bound."""
        self._results.append(Result(what, round(value, 3), at_most))
        assert value <= at_most, f"{what}: {value:.3g}, at most {at_most:g}"


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> Bounds:
    """Called with what is measured, the value, and its bound."""
    return Bounds(request.config.stash.setdefault(RESULTS, []))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write the results."""
    parser.addoption("--bounds", type=Path, help="JSON file for what the bounds measured")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Prints what was measured, and writes it."""
    results = config.stash.get(RESULTS, [])
    for result in results:
        terminalreporter.write_line(f"{result.value:10.3f}  (at most {result.at_most:g})  {result.what}")
    file = config.getoption("--bounds")
    if file and results:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        content = {"machine": machine, "bounds": [asdict(result) for result in results]}
        file.write_text(json.dumps(content, indent=1) + "\n")
