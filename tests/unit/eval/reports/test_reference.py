"""Distances from other images than the evaluated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

import eval
from eval.features import reference
from eval.features.feature_set import FeatureSet
from eval.features.reference import splits_features
from eval.metrics.frechet import frechet_distance
from eval.reports.results import Report
from eval.stand_ins.stand_in import read_rows
from quick_spaces import coarse_pixels, use_quick_spaces
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tiny_runs import untrained_run

DISTANCE = "frechet_efflite0_samples"


@pytest.fixture(autouse=True)
def quick_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_spaces(monkeypatch)


@pytest.fixture
def make(tiny_dataset: Path, tmp_path: Path) -> Any:
    """Reports on training images passed off as samples, and on a model."""
    dataset = Dataset(tiny_dataset)
    copies = read_rows(dataset, "train", np.arange(dataset.num_samples("train"))).numpy()
    np.savez(tmp_path / "copies.npz", copies)
    run = untrained_run(tmp_path / "vae", tiny_dataset, latent_size=6)

    def make(**options: Any) -> Report:
        runs = [run, f"npz:{tmp_path / 'copies.npz'}"]
        return eval.report(runs, tiny_dataset, tmp_path / "out", only=["distances"], device="cpu", **options)

    return make


def features(dataset: Dataset, *splits: str) -> FeatureSet:
    space = coarse_pixels("efflite0", Accelerator(cpu=True).device)
    found = FeatureSet.empty(space.dim)
    for split in splits:
        rows = np.arange(dataset.num_samples(split))
        found.update(rows, space(read_rows(dataset, split, rows)))
    return found


@pytest.mark.parametrize("name", ["val", "train", "all"])
def test_samples_are_measured_from_the_reference(make: Any, tiny_dataset: Path, name: str) -> None:
    dataset = Dataset(tiny_dataset)
    num = dataset.num_samples("train")
    splits = ("train", "val", "test") if name == "all" else (name,)
    theirs = features(dataset, *splits)
    report = make(reference=name, num_samples=num)
    copies = report.runs[1].measures[DISTANCE]
    distance = frechet_distance(features(dataset, "train").statistics, theirs.statistics)
    assert copies.value == pytest.approx(distance, rel=1e-4, abs=1e-6)
    expected = f"{theirs.statistics.count} images, all of {' and '.join(splits)}"
    assert report.protocol["reference of distances"] == expected
    titles = {metric.key: metric.title for metric in report.metrics}
    assert titles[DISTANCE] == f"FD-EffLite0, against {name}"
    assert titles["diversity_samples"] == f"Diversity, against {name}"
    assert titles["frechet_efflite0_reconstructions"] == f"rFD-EffLite0, against {name}"


def test_the_evaluated_images_are_the_default(make: Any, tiny_dataset: Path) -> None:
    default, named = make(), make(reference="test")
    assert default.protocol["reference of distances"] == "the evaluated images"
    for ours, theirs in zip(default.runs + default.baselines, named.runs + named.baselines, strict=True):
        for key, measure in ours.measures.items():
            assert theirs.measures[key].value == measure.value, key
    assert {metric.title for metric in default.metrics if metric.key == DISTANCE} == {"FD-EffLite0"}


def test_copies_of_the_reference_do_not_look_best_without_a_word(make: Any, tiny_dataset: Path) -> None:
    report = make(reference="train", baselines=["real", "double_exposure"])
    vae, copies = report.runs
    real, double = report.baselines
    assert (real.family, double.family) == ("set of images of test", "mean of two images of test")
    assert real.measures[DISTANCE].value > copies.measures[DISTANCE].value, "real faces are none of the reference"
    assert "copies" in copies.measures[DISTANCE].note and "copies" in vae.measures[DISTANCE].note
    assert any("copies of these come nearest" in warning for warning in report.warnings)
    (sentence,) = [warning for warning in report.warnings if "may repeat training images" in warning]
    assert sentence.startswith("copies: ")
    others = vae.measures["frechet_efflite0_other_reconstructions"]
    assert others.value is None and "the reference" in others.reason


def test_where_the_reference_has_all_faces_none_are_shown_as_new(make: Any) -> None:
    report = make(reference="all", baselines=["real", "double_exposure", "mean_face"])
    assert [baseline.name for baseline in report.baselines] == ["mean face"]
    assert any("none are left to show" in warning for warning in report.warnings)


def test_a_split_that_is_not_there_is_refused(make: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reference"):
        make(reference="training")


def test_of_many_images_the_same_share_of_each_split_is_kept(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, accelerator = Dataset(tiny_dataset), Accelerator(cpu=True)
    space = coarse_pixels("efflite0", accelerator.device)
    splits = ("train", "test")
    total = sum(map(dataset.num_samples, splits))
    monkeypatch.setattr(reference, "MAX_FEATURES", total // 2)
    joined = splits_features(dataset, splits, [space], 8, accelerator).sets["efflite0"]
    kept = {row.tobytes() for row in joined.bank.ordered()}
    assert joined.statistics.count == total and len(kept) == total // 2
    for split in splits:
        of_split = [row.tobytes() in kept for row in features(dataset, split).bank.ordered()]
        assert sum(of_split) == pytest.approx(len(of_split) / 2, abs=1)
        assert of_split == sorted(of_split, reverse=True), "the first ones"
