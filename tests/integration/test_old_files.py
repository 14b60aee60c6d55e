"""Files of an earlier release: data sets open in the same order, runs resume to the same weights, reports agree."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eval.report import main as report
from facegen.config import parse_args
from facegen.model import load
from facegen.training.trainer import Trainer
from shards.dataset.dataset import Dataset
from shards.index import verify
from shards.loading.loader import TrainLoader, evaluation_batches
from tuning.ledger import read_ledger

OLD = Path(__file__).parents[1] / "fixtures" / "release_0_1"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
TIMES = ("rate", "latency")
"""Parts of the keys of measures that differ from one machine to the next."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


def test_a_data_set_is_the_same() -> None:
    dataset = Dataset(OLD / "dataset")
    assert dataset.fingerprint == EXPECTED["fingerprint"]
    assert dataset.keys("val") == EXPECTED["keys"]
    assert not verify(dataset)
    pixels = hashlib.sha256()
    for batch in evaluation_batches(dataset, "test", 4):
        pixels.update(batch.images.numpy().tobytes())
    assert pixels.hexdigest() == EXPECTED["test_pixels_sha256"]


def test_training_sees_the_same_images_in_the_same_order() -> None:
    batches = iter(TrainLoader(Dataset(OLD / "dataset"), "train", global_batch_size=16, seed=5))
    pixels, order = hashlib.sha256(), []
    for _ in EXPECTED["order"]:
        batch = next(batches)
        order.append(batch.rows.tolist())
        pixels.update(batch.images.numpy().tobytes())
    assert order == EXPECTED["order"]
    assert pixels.hexdigest() == EXPECTED["pixels_sha256"]


def test_a_run_resumes_to_the_same_weights(run: Path) -> None:
    options = ["--data", str(OLD / "dataset"), "--run", str(run), "--max_images", "256"]
    trainer = Trainer(parse_args(["vae", "--config", str(OLD / "run" / "config.yaml"), *options]))
    assert trainer.images_seen == 128
    assert trainer.fit() == 0
    for weights in ("raw", "ema"):
        resumed = load_file(run / "snapshots" / "images_000000000256" / f"{weights}.safetensors")
        expected = load_file(OLD / f"resumed_{weights}.safetensors")
        assert resumed.keys() == expected.keys()
        for name, tensor in expected.items():
            # Bitwise on the machine that made them; kernels of other processors round otherwise.
            torch.testing.assert_close(resumed[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_a_run_and_its_sampler_are_used() -> None:
    plain, fitted = load(OLD / "run"), load(OLD / "run", sampler="gaussian")
    assert plain.images_seen == 128
    assert plain.sample(2).shape == fitted.sample(2).shape == (2, 3, 16, 16)


def test_a_report_gives_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    options = ["--split", "test", "--fid_weights", "none", "--num_train", "50", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["report", str(OLD / "run"), "--data", str(OLD / "dataset"), *options])
    report()
    old, new = (json.loads((folder / "report.json").read_text()) for folder in (OLD, out))
    rows_now, rows = ([metric["key"] for metric in content["metrics"]] for content in (new, old))
    assert [key for key in rows_now if key in rows] == rows, "rows may join, and none may leave"
    for key, measure in old["runs"][0]["measures"].items():
        if any(part in key for part in TIMES):
            continue
        found = new["runs"][0]["measures"][key]["value"]
        if measure["value"] is None:
            assert found is None, key
        else:
            assert found == pytest.approx(measure["value"], rel=1e-3, abs=1e-6), key
    for name in ("family", "weights", "step", "images_seen", "dataset_fingerprint"):
        assert new["runs"][0][name] == old["runs"][0][name]


def test_the_table_of_a_sweep_is_read() -> None:
    records = read_ledger(OLD / "sweep")
    assert [record.name for record in records] == ["000-kld_weight=0.1", "001-kld_weight=0.01"]
    assert records[0].score == pytest.approx(0.118896, abs=1e-6)
