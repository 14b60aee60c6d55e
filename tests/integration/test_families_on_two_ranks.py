"""Every family trains the same on two ranks as on one.

One process with two accumulation steps is the other side: its micro-batches are exactly the shares of the two ranks, so
batch norm sees the same images on both sides, and everything is to be equal but the rounding of sums.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facegen.families import FAMILIES
from test_launch import launch, run

SCRIPT = Path(__file__).with_name("record_families.py")


@pytest.fixture(scope="module")
def records(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``record_families.py`` wrote, in ``one`` and ``two``."""
    root = tmp_path_factory.mktemp("ranks")
    for name, num_processes, accumulation in (("one", 1, 2), ("two", 2, 1)):
        (root / name).mkdir()
        run(launch(num_processes, SCRIPT, root / name, tiny_dataset, str(accumulation)))
    return root


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_train_as_one_process(family: str, records: Path) -> None:
    one = read(records / "one" / f"{family}.0.jsonl")
    ranks = [read(records / "two" / f"{family}.{rank}.jsonl") for rank in (0, 1)]
    assert len(one) == len(ranks[0]) == len(ranks[1]) == 4
    for alone, first, second in zip(one, *ranks, strict=True):
        assert first["rows"] + second["rows"] == alone["rows"]
        assert first["parameters"] == second["parameters"]
        for name, value in alone["losses"].items():
            together = (first["losses"][name] + second["losses"][name]) / 2
            assert together == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert one[0]["parameters"] != one[-1]["parameters"]
