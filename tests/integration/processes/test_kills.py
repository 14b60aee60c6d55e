"""Kills at random moments cost only the steps since the last checkpoint; see ``tests/benchmarks/kills.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kills import KILLS, survive
from launching import json_lines


@pytest.mark.parametrize(
    ("world_size", "num_kills"), [(2, 4), *(pytest.param(size, 25, marks=pytest.mark.slow) for size in (1, 2))]
)
def test_kills_at_random_moments_change_nothing(
    world_size: int, num_kills: int, tiny_dataset: Path, tmp_path: Path
) -> None:
    survival = survive(world_size, tiny_dataset, tmp_path, num_kills, seed=world_size, tell=print)
    assert survival.differing == []
    assert len(survival.kills) == num_kills
    lines = json_lines(tmp_path / "killed" / "metrics.jsonl")
    losses_at = [line["images_seen"] for line in lines if "train/loss" in line]
    assert losses_at == sorted(set(losses_at)) and losses_at  # Steps that were trained twice are logged once.
    if num_kills > len(KILLS):
        assert any(kill.left_unfinished for kill in survival.kills)
        assert any(kill.has_saved for kill in survival.kills)
