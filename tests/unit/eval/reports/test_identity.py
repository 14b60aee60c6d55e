"""Whether faces stay the same person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import eval
from eval.latent.faces import read_faces
from eval.reports.results import format_number
from facegen.model import load
from quick_spaces import coarse_pixels, use_quick_spaces
from shards.dataset.dataset import Dataset
from tiny_runs import untrained_run


@pytest.fixture(autouse=True)
def quick_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_spaces(monkeypatch)


def test_faces_are_compared_with_their_own_reconstructions(tiny_dataset: Path, tmp_path: Path) -> None:
    run, dataset = untrained_run(tmp_path / "run", tiny_dataset), Dataset(tiny_dataset)
    options = {"spaces": ["efflite0", "face"], "baselines": [], "device": "cpu"}
    report = eval.report(run, tiny_dataset, tmp_path / "out", only=["identity", "morphs"], **options)
    model, space = load(run, device="cpu"), coarse_pixels("face", torch.device("cpu"))
    num = dataset.num_samples("test")
    faces = read_faces(model, dataset, "test", np.arange(num))
    originals, made = (space(torch.from_numpy(images)) for images in (faces.images, faces.reconstruct(model)))
    measures = report.runs[0].measures
    distance = np.linalg.norm(originals - made, axis=1).mean()
    cosine = torch.cosine_similarity(torch.from_numpy(originals), torch.from_numpy(made)).mean()
    assert measures["identity_distance_face"].value == pytest.approx(float(distance), rel=1e-3)
    assert measures["identity_cosine_face"].value == pytest.approx(float(cosine), rel=1e-3)
    assert measures["identity_cosine_face"].note.endswith("for two held-out faces")
    (morphs,) = report.runs[0].pictures
    assert morphs.caption.count("Mean distance from the first face") == 2
    chosen = report_faces(num)
    steps = np.linalg.norm(originals[chosen[:-1]] - made[chosen[:-1]], axis=1).mean()
    assert f" {format_number(float(steps), '.2f')} at step 1," in morphs.caption, "a morph begins with a reconstruction"


def report_faces(num: int) -> np.ndarray:
    """Rows of the faces that a report morphs."""
    return np.linspace(0, num - 1, 4).round().astype(int)


def test_without_the_space_captions_say_nothing_of_it(tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset)
    report = eval.report(run, tiny_dataset, tmp_path / "out", only=["morphs"], baselines=[], device="cpu")
    assert "space face" not in report.runs[0].pictures[0].caption
    assert "identity_cosine_face" not in [metric.key for metric in report.metrics]
