"""A frozen feature net: layers of a trained network, with everything that turns images into its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class FeatureNetDescription:
    """What a feature net is; two losses are comparable only where all of it is the same."""

    name: str
    """Of the network."""
    layers: tuple[str, ...]
    """Whose outputs are compared, in the network's order."""
    layer_weights: tuple[float, ...]
    """Weight of each layer in the loss."""
    sha256: str
    """Of the file of weights; of the tensors themselves where a library keeps the file."""
    input_mean: tuple[float, ...]
    """Subtracted from pixels in [0, 255], one for each input channel."""
    input_std: tuple[float, ...]
    """What the result is divided by."""
    input_size: int | None = None
    """Side to which images are resized; None leaves them as they are."""
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    """How they are resized; with anti-aliasing where that makes them smaller."""


class FeatureNet(nn.Module):
    """Features of images, under gradients that pass through to the images and never change the net.

    Attributes:
        description: What the net is.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, description: FeatureNetDescription) -> None:
        """Freezes ``backbone``, which turns normalized images into a list of one tensor for each layer."""
        super().__init__()
        self.description = description
        self.backbone = backbone.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        std = torch.tensor(description.input_std)
        self.register_buffer("scale", (127.5 / std)[:, None, None])
        self.register_buffer("shift", ((127.5 - torch.tensor(description.input_mean)) / std)[:, None, None])
        self.eval()

    def train(self, mode: bool = True) -> FeatureNet:
        """Stays in eval mode: batch norm of a frozen net must neither use nor learn a batch's statistics."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of each layer, float32, N x ..., of images N x C x H x W in [-1, 1]."""
        size = self.description.input_size
        if size and images.shape[2:] != (size, size):
            images = functional.interpolate(images, (size, size), mode=self.description.resize, antialias=True)
        # Gray images are repeated over the channels by the scale.
        normalized = images * self.scale + self.shift
        features = self.backbone(normalized.contiguous(memory_format=torch.channels_last))
        # A sum of a million squares does not fit into half precision.
        return [feature.float() for feature in features]


class StagedNet(nn.Module):
    """Modules that follow one another, run no further than the last layer that is asked for."""

    def __init__(self, stages: Mapping[str, nn.Module], layers: Sequence[str]) -> None:
        """Takes the stages by name, in order, and the names whose outputs to return.

        Raises:
            ValueError: A layer that is no stage, or layers that are not in the stages' order.
        """
        super().__init__()
        unknown = [layer for layer in layers if layer not in stages]
        if unknown:
            raise ValueError(f"there is no layer {', '.join(unknown)}; there are {', '.join(stages)}.")
        positions = [list(stages).index(layer) for layer in layers]
        if not layers or positions != sorted(set(positions)):
            raise ValueError(
                f"layers must be some of {', '.join(stages)} in this order, each once, not {list(layers)}."
            )
        self.stages = nn.ModuleList(list(stages.values())[: positions[-1] + 1])
        self.positions = positions

    def forward(self, images: Tensor) -> list[Tensor]:
        """The outputs of the layers."""
        outputs, hidden = [], images
        for position, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if position in self.positions:
                outputs.append(hidden)
        return outputs


class Frozen:
    """Holds a feature net for a family without being part of it.

    A submodule would be saved in every checkpoint, copied by the moving average and put into train mode.

    Attributes:
        net: None until it is loaded.
        is_checked: Whether it is known to be the net that the run began with.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.net: FeatureNet | None = None
        self.is_checked = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        """Copies of a family share the net."""
        return self
