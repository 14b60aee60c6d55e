"""The share of samples that are copies of training faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import eval
from eval.metrics.memorization import memorized
from eval.reports.registry import choose_parts
from eval.reports.results import Report
from eval.stand_ins.stand_in import read_rows
from quick_spaces import use_quick_spaces
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tiny_runs import untrained_run

ONLY = ["memorization"]
SPACES = ["efflite0", "face"]


@pytest.fixture(autouse=True)
def quick_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_spaces(monkeypatch)


def make_report(images: dict[str, np.ndarray], data: Path, tmp_path: Path) -> Report:
    for name, array in images.items():
        np.savez(tmp_path / f"{name}.npz", array)
    paths = [f"npz:{tmp_path / name}.npz" for name in images]
    return eval.report(paths, data, tmp_path / "out", only=ONLY, spaces=SPACES, device="cpu", baselines=["real"])


def test_copies_of_training_faces_are_found_and_new_faces_are_not(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset(tiny_dataset)
    num = dataset.num_samples("test")
    train = read_rows(dataset, "train", np.arange(num)).numpy()
    new = read_rows(dataset, "val", np.arange(dataset.num_samples("val"))).numpy()
    held_out = read_rows(dataset, "test", np.arange(num)).numpy()
    new = np.resize(new, train.shape)
    mixed = np.concatenate([train[: num // 2], new[num // 2 :]])
    report = make_report({"copies": train, "mixed": mixed, "held_out": held_out}, tiny_dataset, tmp_path)
    copies, half, none = (run.measures["memorized_face"] for run in report.runs)
    assert copies.value == 1
    assert half.value == pytest.approx(0.5, abs=0.1)
    assert none.value is not None and none.value <= 1 / num
    assert f"to one of {dataset.num_samples('train')} training faces, as 1% of {num} held-out" in copies.note
    assert report.baselines[0].measures["memorized_face"].value == 1, "real faces are training images"
    assert "memorization" not in report.skipped
    assert [picture.file for picture in report.runs[0].pictures] == ["copies-memorized.png"]
    assert "Median 0.000; of held-out faces" in report.runs[0].pictures[0].caption


def test_the_limit_is_what_one_held_out_face_in_a_hundred_is_below() -> None:
    held_out = np.arange(101.0)
    share, limit = memorized(np.array([0.5, 0.99, 1.0, 50.0]), held_out)
    assert (share, limit) == (0.5, 1.0)


def test_it_is_part_of_reports_with_the_face_space_only(tiny_dataset: Path, tmp_path: Path) -> None:
    assert "memorization" in choose_parts([], []) and "memorization" not in choose_parts([], [], ["efflite0"])
    with pytest.raises(UserError, match="'memorization' needs the space face; add it to --spaces"):
        eval.report("run", tiny_dataset, tmp_path / "out", only=ONLY)


def test_why_there_is_no_number(tiny_dataset: Path, other_dataset: Path, tmp_path: Path) -> None:
    runs = [untrained_run(tmp_path / "own", tiny_dataset), untrained_run(tmp_path / "other", other_dataset)]
    options = {"only": ONLY, "spaces": SPACES, "device": "cpu", "baselines": []}
    report = eval.report(runs, tiny_dataset, tmp_path / "out", **options)
    own, other = (run.measures["memorized_face"] for run in report.runs)
    assert own.value is not None and "another data set" in other.reason
    assert "another data set" in report.runs[1].missing[0].reason
    seen = eval.report(runs[:1], tiny_dataset, tmp_path / "seen", split="train", **options)
    assert seen.runs[0].measures["memorized_face"].reason == "needs held-out faces"
