"""Builds each kind of feature net from its weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facegen.networks.face_cnn import FaceTower
from facegen.perceptual.efficientnet_lite import INPUT_MEAN, INPUT_STD, EfficientNetLite0, weights_file
from facegen.perceptual.feature_net import FeatureNet, FeatureNetDescription, StagedNet
from facegen.perceptual.inception_resnet import STAGES, build_stages
from facegen.perceptual.options import FeatureNetConfig
from facegen.perceptual.weight_files import cached_download
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file

_RELEASES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
INCEPTION_URLS = {
    "vggface2": _RELEASES + "20180402-114759-vggface2.pt",
    "casia-webface": _RELEASES + "20180408-102900-casia-webface.pt",
}


class Loaded(NamedTuple):
    """A network and what its kind knows of it.

    Attributes:
        backbone: Normalized images to a list with one tensor for each layer.
        name: Of the network.
        sha256: Of its weights.
        input_mean: For each input channel, of pixels in [0, 255].
        input_std: The same.
    """

    backbone: nn.Module
    name: str
    sha256: str
    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]


def load_feature_net(config: FeatureNetConfig, num_channels: int, device: torch.device) -> FeatureNet:
    """Loads a feature net for images of ``num_channels``; gray images go through color nets, never the reverse.

    Raises:
        UserError: Weights that cannot be had or do not fit, layers that are not there.
    """
    try:
        loaded = _LOADERS[config.kind](config)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"model.features: {error}") from None
    if config.sha256 and loaded.sha256 != config.sha256:
        raise UserError(
            f"the weights of {loaded.name} have the sha256 {loaded.sha256}, not the {config.sha256} asked for."
        )
    if len(loaded.input_mean) not in (num_channels, 3):
        raise UserError(f"{loaded.name} was trained on gray images and cannot compare color images.")
    description = FeatureNetDescription(
        name=loaded.name,
        layers=tuple(config.layer_names),
        layer_weights=tuple(config.layer_weights or [1.0] * len(config.layer_names)),
        sha256=loaded.sha256,
        input_mean=loaded.input_mean,
        input_std=loaded.input_std,
        input_size=config.network_input_size,
    )
    return FeatureNet(loaded.backbone, description).to(device)


def _load_efflite0(config: FeatureNetConfig) -> Loaded:
    path = Path(config.weights) if config.weights else weights_file()
    network = EfficientNetLite0()
    _fill(network, _read_tensors(path), path)
    backbone = StagedNet(network.stages(), config.layer_names)
    return Loaded(backbone, "EfficientNet-Lite0", sha256_file(path), (INPUT_MEAN,) * 3, (INPUT_STD,) * 3)


def _load_inception_resnet_v1(config: FeatureNetConfig) -> Loaded:
    choice = config.weights or "vggface2"
    path = cached_download(INCEPTION_URLS[choice], config.sha256) if choice in INCEPTION_URLS else Path(choice)
    # Only the stages up to the last layer are built and filled: the whole net has 23 million parameters.
    last = max((layer for layer in config.layer_names if layer in STAGES), key=STAGES.index, default=STAGES[0])
    stages = build_stages(last)
    wanted = {name: tensor for name, tensor in _read_tensors(path).items() if name.split(".")[0] in stages}
    _fill(stages, wanted, path)
    backbone = StagedNet(dict(stages.items()), config.layer_names)
    # How facenet-pytorch scales its input, and facenet where it scales all images alike.
    return Loaded(backbone, "Inception-ResNet-v1", sha256_file(path), (127.5,) * 3, (128.0,) * 3)


def _load_face_cnn(config: FeatureNetConfig) -> Loaded:
    # Here, since these two know the families, and families import this file.
    from facegen.model import load
    from facegen.runs.snapshot import find_snapshot

    snapshot = find_snapshot(Path(config.weights or ""))
    model = load(snapshot)
    tower = next((module for module in model.network.modules() if isinstance(module, FaceTower)), None)
    if tower is None:
        raise UserError(
            f"{snapshot} is a model of the family {model.family}, which has no face CNN's tower; give a run of "
            "face_cnn as --model.features.weights."
        )
    stages: dict[str, nn.Module] = {
        f"stages.{number}": nn.Sequential(tower.shrink, stage) if number else stage
        for number, stage in enumerate(tower.stages)
    }
    backbone = StagedNet(stages, config.layer_names)
    channels = model.image_shape.channels
    sha256 = sha256_file(snapshot / f"{model.weights}.safetensors")
    return Loaded(backbone, f"the face CNN of {model.name}", sha256, (127.5,) * channels, (127.5,) * channels)


def _load_timm(config: FeatureNetConfig) -> Loaded:
    from facegen.perceptual.timm_net import load_timm

    assert config.timm_model is not None
    path = Path(config.weights) if config.weights else None
    net = load_timm(config.timm_model, config.layer_names, _read_tensors(path) if path else None)
    mean, std = (tuple(255.0 * value for value in values) for values in (net.mean, net.std))
    return Loaded(net.backbone, net.name, sha256_file(path) if path else net.sha256, mean, std)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of safetensors or of ``torch.save``, by name."""
    if not path.is_file():
        raise UserError(f"there is no file of weights at {path}; give another --model.features.weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, SafetensorError) as error:
        raise UserError(
            f"{path} does not hold weights ({type(error).__name__}); give another --model.features.weights."
        ) from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} does not hold tensors by name; give another --model.features.weights.")
    return tensors


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), "")
        raise UserError(
            f"{path} holds weights of another layout: {first[:120]}; give another --model.features.weights."
        ) from None


_LOADERS: dict[str, Callable[[FeatureNetConfig], Loaded]] = {
    "efflite0": _load_efflite0,
    "inception_resnet_v1": _load_inception_resnet_v1,
    "face_cnn": _load_face_cnn,
    "timm": _load_timm,
}
