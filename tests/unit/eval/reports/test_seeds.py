"""Runs of one configuration and several seeds."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

import eval
from tiny_runs import untrained_run


def test_runs_that_differ_in_their_seed_only_are_averaged(tiny_dataset: Path, tmp_path: Path) -> None:
    runs = [untrained_run(tmp_path / f"vae_{seed}", tiny_dataset, seed=seed) for seed in range(3)]
    runs.append(untrained_run(tmp_path / "wider", tiny_dataset, seed=3, latent_size=5))
    report = eval.report(runs, tiny_dataset, tmp_path / "out", only=["reconstruction"], baselines=[], device="cpu")
    (table,) = report.tables
    assert table.title == "3 seeds: vae_0, vae_1, vae_2"
    values = [run.measures["mse"].value for run in report.runs[:3]]
    known = [value for value in values if value is not None]
    mean, deviation = statistics.mean(known), statistics.stdev(known)
    (cell,) = [row[-1] for row in table.rows if row[1] == "MSE on [-1, 1]"]
    shown_mean, shown_deviation = map(float, cell.split(" ± "))
    assert shown_mean == pytest.approx(mean, rel=1e-3) and shown_deviation == pytest.approx(deviation, rel=0.05)
    assert table.title in (tmp_path / "out" / "report.html").read_text()


def test_one_seed_twice_is_not_several(tiny_dataset: Path, tmp_path: Path) -> None:
    runs = [untrained_run(tmp_path / name, tiny_dataset) for name in ("one", "two")]
    report = eval.report(runs, tiny_dataset, tmp_path / "out", only=["reconstruction"], baselines=[], device="cpu")
    assert not report.tables
