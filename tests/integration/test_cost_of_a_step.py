"""The benchmark of a training step's cost runs, and its shares add up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import cost

NETWORK = "--model.latent_size 8 --model.network.widths [4,8] --global_batch_size 8"


def test_the_cost_of_two_networks_is_measured(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--old", f"vae {NETWORK}", "--ours", f"vae {NETWORK} --model.network.norm group"]
    options += ["--blocks", "1", "--block_sec", "0.01", "--profiled_steps", "1", "--matrix_size", "64"]
    monkeypatch.setattr(sys, "argv", ["cost.py", str(tiny_dataset), *options, "--threads", "1", "--out", str(tmp_path)])
    cost.main()
    results = json.loads((tmp_path / "cost.json").read_text())
    old, ours = results["costs"]
    assert (old["name"], ours["name"]) == ("old", "ours")
    assert old["mflops_per_image"] == ours["mflops_per_image"] > 0
    for measured in (old, ours):
        assert measured["images_per_sec"] > 0 and measured["peak_percent"] > 0
        groups = measured["group_percent"]
        assert sum(groups.values()) == pytest.approx(100)
        assert all(groups[group] > 0 for group in ("convolution", "linear", "norm", cost.OPTIMIZER, cost.DATA))
    assert (tmp_path / "cost.md").read_text().count("\n| old ") == 1
