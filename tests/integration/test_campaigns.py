"""A few hundred bad inputs of each area, all judged right; ``tests/campaigns`` runs thousands."""

from __future__ import annotations

import pytest

from tests.campaigns.campaign import run_campaign

CASES = {
    "data_sets": 300,
    "runs": 100,
    "command_lines": 150,
    "labels": 300,
    "published": 150,
    "servers": 250,
    "remote": 100,
    "disks": 30,
}
SEED = 1


@pytest.mark.parametrize("area", CASES)
def test_bad_inputs_are_refused_or_change_nothing(area: str) -> None:
    summary = run_campaign(area, CASES[area], SEED)
    assert summary.findings == []
