"""Error against the number of latents: runs are trained once, and measured beside principal components."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import facegen
import latents
from facegen.pixels import to_float
from families import Member
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches


def test_a_run_is_trained_once_and_measured_on_all_held_out_images(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    network = {"widths": [4, 8], "refinement": {"widths": []}, "components": {"num": 0}}
    preset = Member("ae", "ae_lfw", {"model": {"network": network}})
    kinds = {"AE": latents.Kind(preset, every_seed=True), "first": latents.Kind(preset, every_seed=False)}
    monkeypatch.setattr(latents, "KINDS", kinds)
    options = ["--latents", "[4,8]", "--seeds", "[5,6]", "--max_images", "32", "--distances", "false"]
    monkeypatch.setattr(sys, "argv", ["latents.py", str(tiny_dataset), str(tmp_path), *options])
    latents.main()
    capfd.readouterr()
    latents.main()
    assert "images/s" not in capfd.readouterr().out  # Nothing is trained again.

    scores = json.loads((tmp_path / "latents.json").read_text())
    assert [(score["kind"], score["latents"], score["seed"]) for score in scores] == [
        ("PCA", 4, None),
        ("PCA", 8, None),
        ("PCA, mirrored images too", 4, None),
        ("PCA, mirrored images too", 8, None),
        ("AE", 4, 5),
        ("AE", 8, 5),
        ("first", 4, 5),
        ("first", 8, 5),
        ("AE", 4, 6),
        ("AE", 8, 6),
    ]
    assert scores[1]["mse"] < scores[0]["mse"] and scores[3]["mse"] < scores[2]["mse"]
    batches = evaluation_batches(Dataset(tiny_dataset), "test", 64, fields=())
    images = torch.cat([to_float(batch.images) for batch in batches])
    reconstructions = facegen.load(tmp_path / "AE_8_5").reconstruct(images)
    assert scores[5]["mse"] == pytest.approx(float((reconstructions - images).square().mean()), rel=1e-4)
    assert (tmp_path / "latents.md").read_text().count("\n| AE | ") == 2
    assert "<svg" in (tmp_path / "mse.svg").read_text()


def test_the_table_gives_the_spread_over_seeds(tmp_path: Path) -> None:
    scores = [latents.Score("AE", 4, seed, mse, 30.0, None) for seed, mse in enumerate((0.01, 0.012, 0.014))]
    latents.write(scores, latents.Config(Path("data"), tmp_path, latents=[4, 8]))
    assert "| AE | 4 | 0.01200 ± 0.00200 | 30.0 ± 0.0 |  |" in (tmp_path / "latents.md").read_text()
