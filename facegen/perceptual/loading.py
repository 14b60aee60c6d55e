"""Builds each kind of feature net from its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facegen.networks.conv_config import ImageShape
from facegen.networks.face_cnn import FaceNetConfig, FaceTower
from facegen.perceptual.efficientnet_lite import INPUT_MEAN, INPUT_STD, EfficientNetLite0, weights_file
from facegen.perceptual.feature_net import FeatureNet, FeatureNetDescription, StagedNet
from facegen.perceptual.inception_resnet import STAGES, build_stages
from facegen.perceptual.options import FeatureNetConfig
from facegen.perceptual.weight_files import cached_download, read_tensors
from facegen.runs.snapshot import find_snapshot, read_description
from facegen.runs.snapshot import weights_file as snapshot_weights
from shards.base.errors import UserError
from shards.dataset.tar import sha256_file

_RELEASES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
INCEPTION_URLS = {
    "vggface2": _RELEASES + "20180402-114759-vggface2.pt",
    "casia-webface": _RELEASES + "20180408-102900-casia-webface.pt",
}
_ADVICE = "give another --model.features.weights"
_FACE_TOWER = "networks.verifier.tower."
"""Prefix of the tower's tensors in the snapshot of a face CNN."""


class Loaded(NamedTuple):
    """A network with its weights and the properties of its kind.

    Attributes:
        backbone: Maps normalized images to a list with one tensor per layer.
        name: Name of the network.
        sha256: Checksum of its weights.
        input_mean: Mean of pixels in [0, 255], for each input channel.
        input_std: Their deviation, for each input channel.
    """

    backbone: nn.Module
    name: str
    sha256: str
    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]


def load_feature_net(config: FeatureNetConfig, num_channels: int, device: torch.device) -> FeatureNet:
    """Loads a feature net for images of ``num_channels``; gray images may go through a color net, not the reverse.

    Raises:
        UserError: Weights that are not available or do not fit, or unknown layers.
    """
    try:
        loaded = _LOADERS[config.kind](config)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"model.features: {error}") from None
    if config.sha256 and loaded.sha256 != config.sha256:
        raise UserError(
            f"the weights of {loaded.name} have sha256 {loaded.sha256}, not the required {config.sha256}; give other "
            "--model.features.weights, or correct --model.features.sha256."
        )
    if len(loaded.input_mean) not in (num_channels, 3):
        raise UserError(
            f"{loaded.name} was trained on gray images and cannot compare color images; choose another feature net."
        )
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
    _fill(network, read_tensors(path, _ADVICE), path)
    backbone = StagedNet(network.stages(), config.layer_names)
    return Loaded(backbone, "EfficientNet-Lite0", sha256_file(path), (INPUT_MEAN,) * 3, (INPUT_STD,) * 3)


def _load_inception_resnet_v1(config: FeatureNetConfig) -> Loaded:
    choice = config.weights or "vggface2"
    path = cached_download(INCEPTION_URLS[choice], config.sha256) if choice in INCEPTION_URLS else Path(choice)
    # Only the stages up to the last layer are built: the whole net has 23 million parameters.
    last = max((layer for layer in config.layer_names if layer in STAGES), key=STAGES.index, default=STAGES[0])
    stages = build_stages(last)
    wanted = {name: tensor for name, tensor in read_tensors(path, _ADVICE).items() if name.split(".")[0] in stages}
    _fill(stages, wanted, path)
    backbone = StagedNet(dict(stages.items()), config.layer_names)
    # facenet-pytorch's scaling of its input, and facenet's fixed one.
    return Loaded(backbone, "Inception-ResNet-v1", sha256_file(path), (127.5,) * 3, (128.0,) * 3)


def _load_face_cnn(config: FeatureNetConfig) -> Loaded:
    # Read from the snapshot's files: facegen.model would import the families, which import this module.
    snapshot = find_snapshot(Path(config.weights or ""))
    description = read_description(snapshot)
    path = snapshot_weights(snapshot, description.weights[0])
    tensors = {name: tensor for name, tensor in read_tensors(path, _ADVICE).items() if name.startswith(_FACE_TOWER)}
    if not tensors:
        raise UserError(
            f"{snapshot} is a model of the family {description.family}, which has no face CNN's tower; give a run of "
            "face_cnn as --model.features.weights."
        )
    image, options = ImageShape(*description.image_shape), description.config["model"]
    try:
        tower = FaceTower(image, options["latent_size"], FaceNetConfig(**options["network"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{snapshot} has other options than this facegen's face CNN ({error}); train it again."
        ) from None
    _fill(tower, {name.removeprefix(_FACE_TOWER): tensor for name, tensor in tensors.items()}, path)
    stages: dict[str, nn.Module] = {
        f"stages.{number}": nn.Sequential(tower.shrink, stage) if number else stage
        for number, stage in enumerate(tower.stages)
    }
    backbone = StagedNet(stages, config.layer_names)
    name, channels = f"the face CNN of {description.name}", (127.5,) * image.channels
    return Loaded(backbone, name, sha256_file(path), channels, channels)


def _load_timm(config: FeatureNetConfig) -> Loaded:
    from facegen.perceptual.timm_net import load_timm

    assert config.timm_model is not None
    path = Path(config.weights) if config.weights else None
    net = load_timm(config.timm_model, config.layer_names, read_tensors(path, _ADVICE) if path else None)
    mean, std = (tuple(255.0 * value for value in values) for values in (net.mean, net.std))
    return Loaded(net.backbone, net.name, sha256_file(path) if path else net.sha256, mean, std)


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), "")
        raise UserError(f"the weights in {path} do not fit the network: {first[:120]}; {_ADVICE}.") from None


_LOADERS: dict[str, Callable[[FeatureNetConfig], Loaded]] = {
    "efflite0": _load_efflite0,
    "inception_resnet_v1": _load_inception_resnet_v1,
    "face_cnn": _load_face_cnn,
    "timm": _load_timm,
}
