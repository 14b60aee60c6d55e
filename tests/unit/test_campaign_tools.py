"""The campaigns' oracle sees each kind of failure, and cases become as small as they can."""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.base.errors import UserError
from tests.campaigns import watching
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.oracle import Oracle
from tests.campaigns.shrinking import shrink
from tests.campaigns.summary import page, read, write

ROOT = Path(__file__).resolve().parents[2]


class Toy(Area):
    """Does what its only change says."""

    title, uses, max_mib = "toy", ("play",), 50

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        return []

    def use(self, folder: Path, case: Case) -> Any:
        for change in case.changes:
            return ACTIONS[change.kind](self, folder)
        return "good"


def refuse(area: Area, folder: Path) -> None:
    raise UserError("this is refused; give another.")


def fill(memory: mmap.mmap) -> int:
    """Takes new memory: the heap may hold what earlier tests have freed, and the process would not grow."""
    return sum(memory.write(bytes(1 << 20)) for _ in range(len(memory) >> 20))


ACTIONS: dict[str, Callable[[Area, Path], Any]] = {
    "refused": refuse,
    "right": lambda area, folder: (folder / "x").write_text("x") and "good",
    "silent": lambda area, folder: "other",
    "traceback": lambda area, folder: 1 / 0,
    "hang": lambda area, folder: time.sleep(30),
    "outside": lambda area, folder: (folder / ".." / "x").write_text("x") and "good",
    "outside, read": lambda area, folder: os.close(os.open(area.bait / "secret", os.O_RDONLY)) or "good",
    "memory": lambda area, folder: fill(mmap.mmap(-1, 100 << 20)) and "good",
    "wordy": lambda area, folder: print("error: one\nerror: two") or exit(2),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_oracle_tells_every_outcome(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "HANG_SEC", 0.2 if kind == "hang" else 20)
    bait = tmp_path / "bait"
    bait.mkdir()
    (bait / "secret").touch()
    oracle = Oracle(Toy(tmp_path, bait), tmp_path / "scratch")
    assert oracle.judge(Case("play", [Change(kind, "")])).outcome == kind.split(",")[0]


def test_a_case_becomes_small() -> None:
    changes = [Change("a", ""), Change("b", "", "x" * 400 + "!" + "y" * 400), Change("c", "")]
    [smallest] = shrink(changes, lambda smaller: any(c.kind == "b" and "!" in c.value for c in smaller))
    assert smallest.kind == "b" and len(smallest.value) < 20


def test_the_page_in_the_documentation_is_that_of_the_results(tmp_path: Path) -> None:
    results = read(ROOT / "tests" / "benchmarks" / "results" / "campaigns.json")
    assert results and (ROOT / "docs" / "campaigns.md").read_text() == page(results)
    write(results, tmp_path / "again.json", None)
    assert read(tmp_path / "again.json") == results
