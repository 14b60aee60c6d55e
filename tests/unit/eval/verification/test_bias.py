"""Counts and tests of bias against scipy and by hand, and the command on tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from eval import bias
from eval.biases.counting import BiasOptions, KnownFeatures, find_bias
from eval.biases.counts import cochran, cross_counts, independence, turned
from eval.biases.probe import accuracy, fit_probe
from eval.features.feature_set import FeatureSet, FeatureSets
from eval.features.spaces import FeatureSpace
from eval.reports.parts.bias import _known
from facegen.model import load
from facegen.pixels import to_uint8
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from tiny_runs import untrained_run


def test_counts_by_gender_and_smile() -> None:
    is_male = np.array([1, 1, 0, 0, 0, 1], bool)
    is_smiling = np.array([1, 0, 0, 1, 1, 1], bool)
    assert cross_counts(is_male, is_smiling).tolist() == [[1, 2], [1, 2]]


def test_independence_is_pearsons_test() -> None:
    found = independence(np.array([[30, 10], [20, 40]]))
    assert found is not None
    # By hand: 100 (30*40 - 10*20)^2 / (40 * 60 * 50 * 50).
    assert found.statistic == pytest.approx(100 * 1000**2 / (40 * 60 * 50 * 50))
    assert (found.dof, found.p) == (1, pytest.approx(stats.chi2.sf(found.statistic, 1)))
    assert independence(np.array([[5, 0], [7, 0]])) is None
    assert independence(np.array([[0, 0], [7, 2]])) is None


def test_who_turned() -> None:
    before = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
    after = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    found = turned(before, after)
    assert (found.to_male, found.to_female) == (3, 1)
    assert found.test is not None and found.test.statistic == 1.0
    assert turned(before, before).test is None


def test_cochrans_q_of_two_degrees_is_mcnemars_test() -> None:
    is_male = np.random.default_rng(0).random((2, 50)) < np.array([[0.3], [0.6]])
    found, pair = cochran(is_male), turned(*is_male).test
    assert found is not None and pair is not None
    assert (found.statistic, found.dof, found.p) == pytest.approx((pair.statistic, 1, pair.p))
    assert cochran(np.ones((3, 5), bool)) is None


def test_cochrans_q_by_hand() -> None:
    # Columns are samples; row sums 4, 2, 1 and column sums 3, 2, 1, 1: Q = 2 (3 * 21 - 49) / (21 - 15).
    found = cochran(np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool))
    assert found is not None and found.statistic == pytest.approx(2 * 14 / 6) and found.dof == 2


def test_a_probe_of_separable_features() -> None:
    random = np.random.default_rng(0)
    truth = random.random(1200) < 0.4
    features = random.normal(size=(1200, 5)).astype(np.float32)
    features[:, 2] += 8 * truth
    probe = fit_probe("Male", features[:1000], truth[:1000])
    found = accuracy(probe, features[1000:], truth[1000:])
    assert found.share > 0.98 and found.balanced > 0.97
    assert found.base_rate == pytest.approx(1 - truth[1000:].mean())
    blind = accuracy(probe, np.zeros((200, 5), np.float32), truth[1000:])
    assert blind.balanced == 0.5
    with pytest.raises(UserError, match="'Male' is the same"):
        fit_probe("Male", features, np.ones(1200, bool))


def mean_colors(device: torch.device) -> FeatureSpace:
    """Means of a 4x4 grid in place of a slow network."""
    return FeatureSpace(
        "grid",
        48,
        "0" * 64,
        "none",
        device,
        lambda images: images[:, ::4, ::4].flatten(1).float(),
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bias, "load_efflite0", mean_colors)


def test_a_conditional_model_is_sampled_at_each_degree(tiny_dataset: Path, tmp_path: Path) -> None:
    name = str(untrained_run(tmp_path / "cvae", tiny_dataset, "cvae"))
    options = ["--num_samples", "30", "--degrees", "-1", "0", "1", "--device", "cpu"]
    bias.main([name, "--data", str(tiny_dataset), "--out", str(tmp_path / "out"), *options])
    result = json.loads((tmp_path / "out" / "bias.json").read_text())
    rows = result["rows"]
    labels = Dataset(tiny_dataset)
    expected = cross_counts(labels.labels("Male", "test") == 1, labels.labels("Smiling", "test") == 1)
    assert rows[0]["counts"] == expected.tolist()
    assert [row["degree"] for row in rows] == [None, None, -1.0, 0.0, 1.0]
    assert all(np.sum(row["counts"]) == 30 for row in rows[2:])
    assert rows[3]["turned"] is None
    for row in (rows[2], rows[4]):
        change = row["turned"]["to_male"] - row["turned"]["to_female"]
        assert change == np.sum(row["counts"][1]) - np.sum(rows[3]["counts"][1])
    assert set(result["probes"]["Male"]) == {"images", "reconstructions"}
    assert (tmp_path / "out" / "bias.svg").read_text().startswith("<svg")
    assert "Cochran" in (tmp_path / "out" / "bias.md").read_text()


def test_an_unconditional_model_is_compared_with_the_data(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(untrained_run(tmp_path / "dcgan", tiny_dataset, "dcgan"))
    bias.main([name, "--data", str(tiny_dataset), "--out", str(tmp_path / "out"), "--num_samples", "20"])
    result = json.loads((tmp_path / "out" / "bias.json").read_text())
    assert [row["images"] for row in result["rows"]][-1] == "samples"
    assert "samples are distributed as the images, as probes read both" in result["tests"]
    assert not (tmp_path / "out" / "bias.svg").exists()
    assert "cannot reconstruct" in capsys.readouterr().out


@pytest.mark.parametrize(("family", "num_known"), [("vae", 10**6), ("vae", 37), ("cvae", 10**6), ("dcgan", 10**6)])
def test_features_that_a_report_has_extracted_are_not_extracted_again(
    tiny_dataset: Path, tmp_path: Path, family: str, num_known: int
) -> None:
    dataset, model = Dataset(tiny_dataset), load(untrained_run(tmp_path / family, tiny_dataset, family))
    options = BiasOptions(num_samples=20, num_fit=60, num_test=30)
    seen: list[int] = []

    def extract(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images[:, ::4, ::4].flatten(1).float()

    space = FeatureSpace("grid", 48, "0" * 64, "none", torch.device("cpu"), extract)

    def first(images: Iterable[Any]) -> np.ndarray:
        return np.concatenate([space(torch.from_numpy(part)) for part in images])[:num_known]

    batches = {split: list(evaluation_batches(dataset, split, 50)) for split in ("train", "test")}
    images = {split: first(batch.images.numpy() for batch in found) for split, found in batches.items()}
    reconstructions = {}
    if model.can >= {"encode", "decode"}:
        faces = [(batch.images.numpy(), batch.labels) for batch in batches["test"]]
        reconstructions["test"] = first(model.reconstruct(*face) for face in faces)
    known = KnownFeatures(images, reconstructions, first([to_uint8(model.sample(20, seed=0)).numpy()]))
    seen.clear()
    with_known = find_bias(options, model, dataset, space, known)
    num_with, num_degrees = sum(seen), len(options.degrees)
    seen.clear()
    assert with_known == find_bias(options, model, dataset, space)
    if num_known == 37:
        assert 0 < num_with < sum(seen)
    else:
        assert num_with == {"vae": 60, "cvae": 60 + 20 * num_degrees, "dcgan": 0}[family]


def test_a_report_passes_on_the_features_that_its_parts_need() -> None:
    def sets(num: int) -> FeatureSets:
        made = FeatureSets({"efflite0": FeatureSet.empty(2)})
        made.sets["efflite0"].update(np.arange(num), np.full((num, 2), num, np.float32))
        return made

    report = SimpleNamespace(train_features=sets(5), split_features=None)
    protocol = SimpleNamespace(split="val")
    run = SimpleNamespace(report=report, protocol=protocol, sample_features=sets(3), get=lambda statistic: sets(4))
    known = _known(run)  # type: ignore[arg-type]
    assert {split: len(features) for split, features in known.images.items()} == {"train": 5}
    assert known.reconstructions["val"].tolist() == [[4, 4]] * 4
    assert known.samples is not None and known.samples.tolist() == [[3, 3]] * 3


def test_labels_that_cannot_be_counted(tiny_dataset: Path, tmp_path: Path) -> None:
    name = str(untrained_run(tmp_path / "vae", tiny_dataset))
    common = [name, "--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="has classes"):
        bias.main([*common, "--gender", "identity"])
    with pytest.raises(UserError, match="no label 'Beard'"):
        bias.main([*common, "--gender", "Beard"])
    with pytest.raises(SystemExit):
        bias.main([*common, "--split", "train"])
