"""A run on several data sets: a command trains on the mix, resumes on it alone, reports on it and on each part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.report import report
from facegen.config import parse_args
from facegen.model import load
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.mixture import open_dataset
from training_runs import MakeConfig, train


def mix(first: Path, second: Path, *weights: str) -> str:
    return " + ".join(f"{place}{weight}" for place, weight in zip((first, second), weights or ("", ""), strict=True))


def test_several_data_options_are_a_mix(tiny_dataset: Path, other_dataset: Path) -> None:
    arguments = ["ae", "--data", f"{tiny_dataset}:0.7", "--run", "run", "--data", f"{other_dataset}:0.3"]
    assert parse_args(arguments).data == mix(tiny_dataset, other_dataset, ":0.7", ":0.3")


def test_a_run_resumes_on_its_own_mix_only(tiny_config: MakeConfig, tiny_dataset: Path, other_dataset: Path) -> None:
    data = mix(tiny_dataset, other_dataset, ":2", ":1")
    first = open_dataset(data).parts[0].num_samples("train")
    rows: list[list[int]] = []

    def record(trainer: Trainer, batch: object, terms: object) -> None:
        rows.append(batch.rows.tolist())  # type: ignore[attr-defined]

    for config in (tiny_config("ae", data=data, max_steps=2), tiny_config("ae", data=data, max_steps=4)):
        Trainer(config).fit(on_step=record)
    assert [sum(row < first for row in batch) for batch in rows] == [11, 10, 11, 11]
    whole = rows.copy()
    rows.clear()
    Trainer(tiny_config("ae", data=data, run=tiny_config().run + "_whole")).fit(on_step=record)
    assert rows == whole
    for other in (mix(tiny_dataset, other_dataset, ":1", ":1"), mix(tiny_dataset, other_dataset), str(tiny_dataset)):
        with pytest.raises(UserError, match="fingerprint .*; give the data it was trained on"):
            Trainer(replace(tiny_config("ae", max_steps=6), data=other))


def test_a_report_measures_all_together_and_each_part(
    tiny_config: MakeConfig, tiny_dataset: Path, other_dataset: Path, tmp_path: Path
) -> None:
    data = mix(tiny_dataset, other_dataset)
    config = tiny_config("ae", data=data)
    train(config)
    assert load(config.run).dataset_fingerprint == open_dataset(data).fingerprint
    out = tmp_path / "report"
    report(config.run, data, out, only=["reconstruction"], fid_weights="none", device="cpu", baselines=[])
    places = [out, out / "parts" / "1", out / "parts" / "2"]
    found = [json.loads((place / "report.json").read_text()) for place in places]
    together, *alone = (content["runs"][0]["measures"]["mse"]["value"] for content in found)
    nums = [part.num_samples("test") for part in open_dataset(data).parts]
    mean = sum(value * num for value, num in zip(alone, nums, strict=True)) / sum(nums)
    assert together == pytest.approx(mean, rel=1e-5)
    assert not any(content["runs"][0]["difference"] for content in found)  # Held-out images of its own training data.
    assert any("in parts/1, " in warning for warning in found[0]["warnings"])
    assert "parts/2" in (out / "report.html").read_text()
