"""Kills at random moments cost only the steps since the last checkpoint; see ``tests/benchmarks/kills.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from launching import json_lines
from tests.benchmarks.victims import spot
from tests.benchmarks.victims.training import KILLS, survive


@pytest.mark.parametrize(
    ("place", "num_kills"), [("2", 4), *(pytest.param(place, 25, marks=pytest.mark.slow) for place in ("1", "2"))]
)
def test_kills_at_random_moments_change_nothing(place: str, num_kills: int, tiny_dataset: Path, tmp_path: Path) -> None:
    survival = survive(place, tiny_dataset, tmp_path, num_kills, seed=int(place), tell=print)
    assert survival.differing == []
    assert len(survival.kills) == num_kills
    lines = json_lines(tmp_path / "killed" / "metrics.jsonl")
    losses_at = [line["images_seen"] for line in lines if "train/loss" in line]
    assert losses_at == sorted(set(losses_at)) and losses_at  # Steps that were trained twice are logged once.
    if num_kills > len(KILLS):
        assert any(kill.left_unfinished for kill in survival.kills)
        assert any(kill.has_saved for kill in survival.kills)


@pytest.mark.slow
def test_a_packing_on_machines_that_are_lost_at_random_is_that_of_one(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    survival = spot.survive(tmp_path, num_kills=4, seed=0, tell=print)
    assert survival.differing == []
    assert {kill.kill for kill in survival.kills} == set(spot.KILLS)
