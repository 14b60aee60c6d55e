"""Feature nets: the features of each kind, weights that do not fit, and downloads."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facegen.options import TrainConfig
from facegen.perceptual.efficientnet_lite import EfficientNetLite0, weights_file
from facegen.perceptual.feature_net import FeatureNet, FeatureNetDescription, StagedNet
from facegen.perceptual.inception_resnet import STAGES, build_stages
from facegen.perceptual.loading import INCEPTION_URLS, load_feature_net
from facegen.perceptual.loss import perceptual_error
from facegen.perceptual.options import FeatureNetConfig
from facegen.perceptual.torchvision_ops import make_torchvision_importable
from facegen.perceptual.weight_files import cached_download
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file

CPU = torch.device("cpu")
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def images_of(num: int, channels: int = 3, size: int = 32) -> Tensor:
    return torch.rand(num, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def load(num_channels: int = 3, **options: Any) -> FeatureNet:
    return load_feature_net(FeatureNetConfig(**options), num_channels, CPU)


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in facenet-pytorch's layout: its first half, and its classifier."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pt"
    head = {"last_linear.weight": torch.zeros(512, 1792), "logits.bias": torch.zeros(8631)}
    torch.save(build_stages("conv2d_4b").state_dict() | head, path)
    return path


def test_facenets_layers_have_768896_values(inception_file: Path) -> None:
    net = load(kind="inception_resnet_v1", weights=str(inception_file))
    features = net(images_of(1, size=64))
    assert [tuple(feature.shape[1:]) for feature in features] == [(32, 79, 79), (32, 77, 77), (64, 77, 77)]
    assert sum(feature.numel() for feature in features) == 768_896
    assert all(feature.min() >= 0 for feature in features)  # After the ReLU.
    # Nothing after the last layer is built: 864 + 9,216 + 18,432 weights and three batch norms remain.
    assert sum(parameter.numel() for parameter in net.parameters()) == 28_512 + 2 * 128


def test_the_whole_inception_resnet_has_facenet_pytorchs_layout() -> None:
    with torch.device("meta"):
        stages = build_stages("block8")
    # The published network has 23,482,624, of which 917,504 and 1,024 belong to the embedding.
    assert sum(parameter.numel() for parameter in stages.parameters()) == 23_482_624 - 917_504 - 1_024
    names = set(stages.state_dict())
    assert {
        "conv2d_1a.conv.weight",
        "repeat_1.4.branch2.1.bn.running_var",
        "mixed_6a.branch1.2.conv.weight",
        "repeat_2.9.conv2d.bias",
        "mixed_7a.branch2.0.bn.weight",
        "block8.branch1.2.conv.weight",
    } <= names
    hidden, sizes = torch.empty(1, 3, 160, 160, device="meta"), {}
    with torch.no_grad():
        for name, stage in stages.eval().items():
            hidden = stage(hidden)
            sizes[name] = tuple(hidden.shape[1:])
    assert tuple(sizes) == STAGES
    assert sizes["maxpool_3a"] == (64, 38, 38)
    assert sizes["repeat_1"] == (256, 17, 17)
    assert sizes["repeat_2"] == (896, 8, 8)
    assert sizes["block8"] == (1792, 3, 3)


def test_efflite0_layers_are_those_of_the_network() -> None:
    network = EfficientNetLite0().eval()
    network.load_state_dict(torch.load(weights_file(), weights_only=True))
    images = images_of(2)
    normalized = ((images + 1) * 127.5 - 127) / 128
    seen: list[Tensor] = []
    for layer in (network._blocks[0], network._blocks[2], network._blocks[4]):
        layer.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        network.features(normalized)
    net = load()
    assert net.description.layers == ("blocks.0", "blocks.2", "blocks.4")
    assert net.description.sha256 == sha256_file(weights_file())
    for feature, expected in zip(net(images), seen, strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)


def test_the_face_cnn_of_a_run(tiny_config: Callable[..., TrainConfig]) -> None:
    trainer = Trainer(tiny_config("face_cnn", max_steps=1))
    trainer.fit()
    net = load(kind="face_cnn", weights=str(trainer.run))
    network: Any = trainer.family.networks["verifier"].eval()
    images = images_of(2, size=16)
    with torch.no_grad():
        expected = network.tower.stage_outputs(images)[: len(net.description.layers)]
        for feature, output in zip(net(images), expected, strict=True):
            torch.testing.assert_close(feature, output, rtol=1e-4, atol=1e-4)
    assert load(kind="face_cnn", weights=str(trainer.run)).description == net.description


def test_a_run_of_another_family_is_refused_as_a_face_cnn(tiny_config: Callable[..., TrainConfig]) -> None:
    trainer = Trainer(tiny_config("ae", max_steps=1))
    trainer.fit()
    with pytest.raises(UserError, match="give a run of face_cnn"):
        load(kind="face_cnn", weights=str(trainer.run))


@needs_timm
@pytest.mark.parametrize("layers", [["0", "2"], ["layer1.0.conv1", "layer2"]])
def test_any_timm_model_with_a_weights_file(layers: list[str], tmp_path: Path) -> None:
    make_torchvision_importable()
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet10t").eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    net = load(kind="timm", timm_model="resnet10t", layers=layers, weights=str(tmp_path / "weights.pth"))
    images, seen = images_of(2, size=64), []
    for name in {"0": ["act1", "layer2"], "layer1.0.conv1": ["layer1.0.conv1", "layer2"]}[layers[0]]:
        network.get_submodule(name).register_forward_hook(lambda module, args, output: seen.append(output))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    with torch.no_grad():
        network(((images + 1) / 2 - mean) / std)
    for feature, expected in zip(net(images), seen, strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-3, atol=1e-3)
    assert net.description.sha256 == sha256_file(tmp_path / "weights.pth")
    assert not any(parameter.requires_grad for parameter in net.parameters())


@needs_timm
@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        ("resnet10", ["0"], "similar:.*resnet10t"),
        ("resnet10t", ["0", "9"], "fewer feature levels"),
        ("resnet10t", ["layer9"], "cannot extract layer9 from resnet10t"),
    ],
)
def test_unknown_timm_models_and_layers(model: str, layers: list[str], message: str, tmp_path: Path) -> None:
    make_torchvision_importable()
    import timm

    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        load(kind="timm", timm_model=model, layers=layers, weights=str(tmp_path / "weights.pth"))


@needs_timm
def test_without_a_connection_timm_asks_for_a_weights_file(monkeypatch: pytest.MonkeyPatch) -> None:
    make_torchvision_importable()
    import timm

    def unreachable(*args: Any, **options: Any) -> None:
        raise FileNotFoundError("no hub")  # Base class of huggingface_hub's LocalEntryNotFoundError.

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="--model.features.weights"):
        load(kind="timm", timm_model="resnet10t", layers=["0"])


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'facegen\[perceptual\]'"):
        load(kind="timm", timm_model="resnet10t", layers=["0"])


def test_gray_images_count_as_color_images_without_color() -> None:
    gray = images_of(2, channels=1)
    net = load(num_channels=1)
    for feature, expected in zip(net(gray), net(gray.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(feature, expected)


def test_a_gray_net_refuses_color_images(tiny_config: Callable[..., TrainConfig], monkeypatch: Any) -> None:
    monkeypatch.setitem(
        sys.modules["facegen.perceptual.loading"]._LOADERS,
        "efflite0",
        lambda config: sys.modules["facegen.perceptual.loading"].Loaded(nn.Identity(), "g", "0", (127.5,), (127.5,)),
    )
    with pytest.raises(UserError, match="gray images"):
        load(num_channels=3)
    assert load(num_channels=1).description.name == "g"


def test_images_are_resized_and_scaled_as_described() -> None:
    class Keep(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [images]

    net = FeatureNet(Keep(), FeatureNetDescription("keep", ("all",), (1.0,), "0", (127.0,) * 3, (128.0,) * 3, 8))
    white = net(torch.ones(1, 3, 32, 32))[0]
    assert white.shape == (1, 3, 8, 8)
    torch.testing.assert_close(white, torch.ones_like(white))
    torch.testing.assert_close(net(-torch.ones(1, 3, 8, 8))[0], torch.full((1, 3, 8, 8), -127 / 128))
    # Anti-aliasing turns the finest checkerboard gray.
    checkers = torch.ones(32, 32)
    checkers[::2, ::2] = checkers[1::2, 1::2] = -1
    assert net(checkers.expand(1, 3, -1, -1))[0].abs().max() < 0.1


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_reach_the_reconstructions_only(reduction: Any) -> None:
    net = load(layers=["stem", "blocks.2"])
    images, reconstructions = images_of(2).requires_grad_(), images_of(2).roll(1, 3).requires_grad_()
    torch.stack(perceptual_error(net, images, reconstructions, reduction)).sum().backward()
    assert reconstructions.grad is not None and (reconstructions.grad.abs() > 0).float().mean() > 0.9
    assert images.grad is None
    assert all(parameter.grad is None for parameter in net.parameters())


def test_no_stage_runs_after_the_last_layer() -> None:
    def fail(images: Tensor) -> Tensor:
        raise AssertionError("ran")

    class Behind(nn.Module):
        forward = staticmethod(fail)

    net = StagedNet({"a": nn.Identity(), "b": nn.ReLU(), "c": Behind()}, ["b"])
    assert len(net(images_of(1))) == 1
    with pytest.raises(ValueError, match="no layer d"):
        StagedNet({"a": nn.Identity()}, ["d"])
    with pytest.raises(ValueError, match="order"):
        StagedNet({"a": nn.Identity(), "b": nn.ReLU()}, ["b", "a"])


@pytest.mark.parametrize("content", [None, b"", b"not weights", {"layer": torch.zeros(3)}, [1, 2]])
@pytest.mark.parametrize("kind", ["inception_resnet_v1", "efflite0"])
def test_a_wrong_weights_file_is_refused_in_one_sentence(kind: Any, content: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match="--model.features.weights") as caught:
        load(kind=kind, weights=str(path))
    assert "\n" not in str(caught.value)


def test_weights_with_another_checksum_are_refused() -> None:
    with pytest.raises(UserError, match="sha256"):
        load(sha256="0" * 64)
    assert load(sha256=sha256_file(weights_file())).description.name == "EfficientNet-Lite0"


def test_an_unknown_layer_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no layer blocks.99; choose from stem, blocks.0"):
        load(layers=["blocks.99"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "timm", "layers": ["0"]}, "timm_model"),
        ({"timm_model": "vgg19"}, "timm_model"),
        ({"kind": "timm", "timm_model": "vgg19"}, "layers"),
        ({"kind": "face_cnn"}, "weights"),
        ({"layers": ["stem"], "layer_weights": [1.0, 2.0]}, "one weight for each of"),
        ({"layers": ["stem"], "layer_weights": [-1.0]}, "must not be negative"),
        ({"layers": ["stem"], "layer_weights": [0.0]}, "nor all 0"),
        ({"input_size": 4}, "input_size"),
        ({"sha256": "abc"}, "sha256"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureNetConfig(**options)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one content, without its last ``missing`` bytes."""

    content, missing, requests = b"", 0, 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) - self.missing])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Server]]:
    """A server of weights, and an empty cache."""
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))

    class Mine(Server):
        url = ""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as running:
        Mine.url = f"http://127.0.0.1:{running.server_port}/release/weights.pt"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Mine
        running.shutdown()


def test_weights_are_downloaded_once(server: Any, inception_file: Path, monkeypatch: Any, tmp_path: Path) -> None:
    server.content = inception_file.read_bytes()
    monkeypatch.setitem(INCEPTION_URLS, "vggface2", server.url)
    net = load(kind="inception_resnet_v1", sha256=sha256_file(inception_file))
    assert net.description.sha256 == sha256_file(inception_file)
    load(kind="inception_resnet_v1", weights="vggface2")
    assert server.requests == 1
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    assert [path.name for path in kept] == ["weights.pt"]


@pytest.mark.parametrize("wrong", ["checksum", "length"])
def test_a_damaged_download_is_refused_and_not_kept(wrong: str, server: Any, tmp_path: Path) -> None:
    server.content = b"weights" * 1000
    server.missing = 500 if wrong == "length" else 0
    expected = hashlib.sha256(server.content + (b"!" if wrong == "checksum" else b"")).hexdigest()
    with pytest.raises(UserError, match="--model.features.weights FILE"):
        cached_download(server.url, expected)
    assert not [path for path in (tmp_path / "cache").rglob("*weights*") if path.is_file() and path.suffix != ".lock"]
    server.missing = 0
    assert cached_download(server.url, None).read_bytes() == server.content


def test_a_cached_file_is_checked_as_well(server: Any) -> None:
    server.content = b"other weights"
    path = cached_download(server.url, None)
    with pytest.raises(UserError, match="delete it"):
        cached_download(server.url, "0" * 64)
    assert path.is_file()


def test_a_missing_server(server: Any) -> None:
    with pytest.raises(UserError, match="could not be downloaded"):
        cached_download("http://127.0.0.1:9/weights.pt", None, timeout_sec=1)
    assert server.requests == 0


def test_processes_that_ask_at_once_download_once(server: Any) -> None:
    server.content = b"weights" * 100_000
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(cached_download(server.url, None, timeout_sec=10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert server.requests == 1
