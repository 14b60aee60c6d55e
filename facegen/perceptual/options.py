"""Options of the feature net that compares images."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_DEFAULT_LAYERS = {
    "efflite0": ["blocks.0", "blocks.2", "blocks.4"],
    "inception_resnet_v1": ["conv2d_1a", "conv2d_2a", "conv2d_2b"],
    "face_cnn": ["stages.0", "stages.1"],
}
_DEFAULT_INPUT_SIZE = {"inception_resnet_v1": 160}
_KINDS_WITHOUT_WEIGHTS_OF_THEIR_OWN = {"face_cnn"}


@dataclass
class FeatureNetConfig:
    """A frozen feature net; the default needs neither a download nor a training."""

    kind: Literal["efflite0", "inception_resnet_v1", "face_cnn", "timm"] = "efflite0"
    """``efflite0``: ImageNet EfficientNet-Lite0, whose weights install with this project. ``inception_resnet_v1``: a
    face recognizer, downloaded or from a file. ``face_cnn``: a run of this project's face CNN. ``timm``: any timm
    model."""
    weights: str | None = None
    """A weights file (in facenet-pytorch's layout, or timm's for the model), or the run of a face CNN.
    inception_resnet_v1 also takes vggface2 (the default) and casia-webface, which it downloads; without a file, timm
    downloads its own."""
    sha256: str | None = None
    """Required checksum of the weights; null accepts any."""
    timm_model: str | None = None
    """Name of the timm model, for kind timm."""
    layers: list[str] = field(default_factory=list)
    """Layers to compare, in the network's order; empty takes the kind's defaults. For timm, numbers of feature levels
    or names of modules."""
    layer_weights: list[float] = field(default_factory=list)
    """Weight of each layer; empty weighs each by 1."""
    input_size: int | None = None
    """Side to which images are resized; null does not resize, except to 160 for inception_resnet_v1."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if (self.kind == "timm") != (self.timm_model is not None):
            raise ValueError("features.kind timm and features.timm_model belong together: set both, or neither.")
        if self.kind == "timm" and not self.layers:
            raise ValueError("features.layers must name the layers of a timm model, for example [0,1,2].")
        if self.kind in _KINDS_WITHOUT_WEIGHTS_OF_THEIR_OWN and not self.weights:
            raise ValueError(f"features.kind {self.kind} needs features.weights, the run of a trained face CNN.")
        if self.layer_weights and len(self.layer_weights) != len(self.layer_names):
            raise ValueError(
                f"features.layer_weights must give one weight for each of {self.layer_names}, not {self.layer_weights}."
            )
        if any(weight < 0 for weight in self.layer_weights) or (self.layer_weights and not any(self.layer_weights)):
            raise ValueError(f"features.layer_weights must not be negative, nor all 0, not {self.layer_weights}.")
        if self.input_size is not None and self.input_size < 8:
            raise ValueError(f"features.input_size must be at least 8, not {self.input_size}.")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"features.sha256 must be 64 hexadecimal digits, not {self.sha256}.")

    @property
    def layer_names(self) -> list[str]:
        """The layers to compare."""
        return self.layers or _DEFAULT_LAYERS[self.kind]

    @property
    def network_input_size(self) -> int | None:
        """Side to which images are resized; None does not resize."""
        return self.input_size or _DEFAULT_INPUT_SIZE.get(self.kind)
