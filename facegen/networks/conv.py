"""The strided convolutional encoder and its mirror image, shared by the autoencoding families."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor, nn


@dataclass
class ConvNetConfig:
    """A stack of stride-2 convolutions and its mirror image."""

    widths: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    """Channels after each stride-2 convolution of the encoder; the decoder mirrors them."""
    kernel_size: int = 4
    """Kernel of every convolution; 3 and 4 halve even sizes exactly with padding 1."""
    norm: Literal["batch", "none"] = "batch"
    """Normalization between a convolution and its activation."""
    negative_slope: float = 0.2
    """Slope of the leaky ReLU below zero."""
    dropout: float = 0.0
    """Share of activations dropped after each activation, in [0, 1)."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """Last activation of the decoder; a sigmoid's output is moved from [0, 1] to [-1, 1]."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be at least one positive number, not {self.widths}.")
        if self.kernel_size not in (3, 4):
            raise ValueError(f"kernel_size must be 3 or 4, not {self.kernel_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}.")


class ImageShape(NamedTuple):
    """Channels, height and width of every image of a run."""

    channels: int
    height: int
    width: int

    @property
    def num_pixels(self) -> int:
        """Values in one image."""
        return math.prod(self)


def feature_shape(image: ImageShape, config: ConvNetConfig) -> ImageShape:
    """Shape after the last convolution of the encoder.

    Raises:
        ValueError: A side that the number of stride-2 stages does not divide.
    """
    factor = 2 ** len(config.widths)
    if image.height % factor or image.width % factor:
        raise ValueError(
            f"images of {image.height}x{image.width} cannot be halved {len(config.widths)} times: "
            f"use fewer model.network.widths or pack images whose sides are multiples of {factor}."
        )
    return ImageShape(config.widths[-1], image.height // factor, image.width // factor)


class ConvEncoder(nn.Module):
    """Images to a vector: stride-2 convolutions, each normalized and activated, then one linear layer."""

    def __init__(self, image: ImageShape, out_features: int, config: ConvNetConfig) -> None:
        """Builds for images of ``image`` and ``out_features`` outputs."""
        super().__init__()
        widths = [image.channels, *config.widths]
        stages = [
            [nn.Conv2d(before, after, config.kernel_size, stride=2, padding=1), *_after_conv(after, config)]
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.head = nn.Linear(feature_shape(image, config).num_pixels, out_features)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x out_features."""
        return self.head(self.stages(images).flatten(1))


class ConvDecoder(nn.Module):
    """A vector to images: one linear layer, then stride-2 transposed convolutions."""

    def __init__(self, image: ImageShape, in_features: int, config: ConvNetConfig) -> None:
        """Builds for ``in_features`` inputs and images of ``image``."""
        super().__init__()
        self.features = feature_shape(image, config)
        self.head = nn.Linear(in_features, self.features.num_pixels)
        widths = [*reversed(config.widths), image.channels]
        # A kernel of 3 needs one more row at the far side to double the size exactly.
        output_padding = 1 if config.kernel_size == 3 else 0
        stages = [
            [nn.ConvTranspose2d(before, after, config.kernel_size, 2, 1, output_padding), *_after_conv(after, config)]
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        ]
        stages[-1] = stages[-1][:1]  # The last convolution makes pixels: no normalization, its own activation.
        self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.output = config.output

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W, in [-1, 1] unless the output is linear."""
        images = self.stages(self.head(latents).unflatten(1, tuple(self.features)))
        if self.output == "tanh":
            return images.tanh()
        return images.sigmoid() * 2 - 1 if self.output == "sigmoid" else images


def _after_conv(width: int, config: ConvNetConfig) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.BatchNorm2d(width)] if config.norm == "batch" else []
    layers.append(nn.LeakyReLU(config.negative_slope))
    if config.dropout:
        layers.append(nn.Dropout(config.dropout))
    return layers
