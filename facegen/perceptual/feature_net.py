"""A frozen feature net: layers of a trained network, and the preprocessing of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class FeatureNetDescription:
    """What defines a feature net; losses are comparable only if all of it is the same."""

    name: str
    """Name of the network."""
    layers: tuple[str, ...]
    """Layers whose outputs are compared, in the network's order."""
    layer_weights: tuple[float, ...]
    """Weight of each layer in the loss."""
    sha256: str
    """Checksum of the weights file, or of the tensors if a library manages the file."""
    input_mean: tuple[float, ...]
    """Mean that is subtracted from pixels in [0, 255], for each input channel."""
    input_std: tuple[float, ...]
    """Deviation that divides the result, for each input channel."""
    input_size: int | None = None
    """Side to which images are resized; None does not resize."""
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of resizing, with anti-aliasing when images shrink."""


class FeatureNet(nn.Module):
    """Features of images; gradients reach the images and never change the net.

    Attributes:
        description: What defines the net.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, description: FeatureNetDescription) -> None:
        """Freezes ``backbone``, which maps normalized images to a list with one tensor per layer."""
        super().__init__()
        self.description = description
        self.backbone = backbone.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        std = torch.tensor(description.input_std)
        self.register_buffer("scale", (127.5 / std)[:, None, None])
        self.register_buffer("shift", ((127.5 - torch.tensor(description.input_mean)) / std)[:, None, None])
        self.eval()

    def train(self, mode: bool = True) -> FeatureNet:
        """Stays in eval mode: a frozen net's batch norm must neither use nor learn the batch's statistics."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of each layer, float32, N x ..., of images N x C x H x W in [-1, 1]."""
        size = self.description.input_size
        if size and images.shape[2:] != (size, size):
            images = functional.interpolate(images, (size, size), mode=self.description.resize, antialias=True)
        # The scale repeats gray images over the channels.
        normalized = images * self.scale + self.shift
        features = self.backbone(normalized.contiguous(memory_format=torch.channels_last))
        # A sum of a million squares overflows half precision.
        return [feature.float() for feature in features]


class StagedNet(nn.Module):
    """A chain of modules that runs no further than the last layer asked for."""

    def __init__(self, stages: Mapping[str, nn.Module], layers: Sequence[str]) -> None:
        """Takes the stages by name, in order, and the names of those whose outputs to return.

        Raises:
            ValueError: A layer that is not a stage, or layers out of order.
        """
        super().__init__()
        unknown = [layer for layer in layers if layer not in stages]
        if unknown:
            raise ValueError(f"there is no layer {', '.join(unknown)}; choose from {', '.join(stages)}.")
        positions = [list(stages).index(layer) for layer in layers]
        if not layers or positions != sorted(set(positions)):
            raise ValueError(
                f"layers must be some of {', '.join(stages)}, in this order and each once, not {list(layers)}."
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
    """Holds a feature net outside a family's submodules.

    A submodule would be saved in every checkpoint, copied by the moving average and switched to train mode.

    Attributes:
        net: None until it is loaded.
        is_checked: Whether it was compared with the net that the run started with.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.net: FeatureNet | None = None
        self.is_checked = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        """Shares the net between copies of a family."""
        return self
