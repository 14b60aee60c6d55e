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
    """Normalization between each convolution and its activation."""
    negative_slope: float = 0.2
    """Slope of the leaky ReLU below zero."""
    dropout: float = 0.0
    """Share of the outputs of each activation that is dropped, in [0, 1)."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """Last activation of the decoder; a sigmoid is rescaled from [0, 1] to [-1, 1]."""
    residual_blocks: int = 0
    """Blocks x + f(x) after each convolution of the encoder and before each of the decoder; they start as identity."""
    bottleneck: Literal["linear", "conv"] = "linear"
    """Layer between features and latents: dense, or a 1x1 convolution, which keeps each latent at its place in the
    image and stays small for many latents."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be at least one positive number, not {self.widths}.")
        if self.kernel_size not in (3, 4):
            raise ValueError(f"kernel_size must be 3 or 4, not {self.kernel_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}.")
        if self.residual_blocks < 0:
            raise ValueError(f"residual_blocks must not be negative, not {self.residual_blocks}.")


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
        ValueError: A side that cannot be halved by every stage.
    """
    factor = 2 ** len(config.widths)
    if image.height % factor or image.width % factor:
        raise ValueError(
            f"images of {image.height}x{image.width} cannot be halved {len(config.widths)} times: "
            f"use fewer model.network.widths or pack images whose sides are multiples of {factor}."
        )
    return ImageShape(config.widths[-1], image.height // factor, image.width // factor)


def latent_channels(latent_size: int, features: ImageShape) -> int:
    """Channels of a map that has the features' height and width and holds ``latent_size`` values.

    Raises:
        ValueError: A size that is not a multiple of the map's positions.
    """
    positions = features.height * features.width
    channels, rest = divmod(latent_size, positions)
    if rest:
        nearest = " or ".join(str(multiple * positions) for multiple in (channels, channels + 1) if multiple)
        raise ValueError(
            f"bottleneck conv arranges the latents on a map of {features.height}x{features.width}, so latent_size must "
            f"be a multiple of {positions}, not {latent_size}: use {nearest}, or bottleneck linear."
        )
    return channels


class ResidualBlock(nn.Module):
    """``x + f(x)`` with two convolutions in ``f`` (He et al. 2016)."""

    def __init__(self, width: int, config: ConvNetConfig) -> None:
        """Builds for ``width`` channels in and out."""
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        # Starting at f = 0, a deeper net behaves like the shallow one and needs no other learning rate.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), *_after_conv(width, config), last)

    def forward(self, features: Tensor) -> Tensor:
        """N x width x H x W to the same shape."""
        return features + self.layers(features)


class ConvEncoder(nn.Module):
    """Images to a vector: stride-2 convolutions with normalization and activation, then the bottleneck."""

    def __init__(self, image: ImageShape, out_features: int, config: ConvNetConfig, num_vectors: int = 1) -> None:
        """Builds for images of ``image``.

        Args:
            image: Shape of the images.
            out_features: Length of the output.
            config: The network's options.
            num_vectors: Latent vectors concatenated in the output: 2 for mean and log variance.

        Raises:
            ValueError: Images that cannot be halved often enough, or latents that do not fill a conv bottleneck.
        """
        super().__init__()
        widths = [image.channels, *config.widths]
        stages = [
            [
                nn.Conv2d(before, after, config.kernel_size, stride=2, padding=1),
                *_after_conv(after, config),
                *_residual_blocks(after, config),
            ]
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
        features = feature_shape(image, config)
        if config.bottleneck == "linear":
            self.head: nn.Module = nn.Linear(features.num_pixels, out_features)
        else:
            # Channels vary slowest in the flat output, so each vector is a whole group of channels.
            channels = num_vectors * latent_channels(out_features // num_vectors, features)
            self.head = nn.Conv2d(features.channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x out_features."""
        features = self.stages(images)
        if isinstance(self.head, nn.Linear):
            features = features.flatten(1)
        return self.head(features).flatten(1)


class ConvDecoder(nn.Module):
    """A vector to images: the bottleneck, then stride-2 transposed convolutions."""

    def __init__(self, image: ImageShape, in_features: int, config: ConvNetConfig) -> None:
        """Builds for ``in_features`` inputs and images of ``image``.

        Raises:
            ValueError: Images that cannot be halved often enough, or latents that do not fill a conv bottleneck.
        """
        super().__init__()
        features = feature_shape(image, config)
        self.features = features
        if config.bottleneck == "linear":
            self.latent_shape: tuple[int, ...] = (in_features,)
            self.head: nn.Module = nn.Linear(in_features, features.num_pixels)
        else:
            self.latent_shape = (latent_channels(in_features, features), features.height, features.width)
            self.head = nn.Conv2d(self.latent_shape[0], features.channels, 1)
        widths = [*reversed(config.widths), image.channels]
        # A kernel of 3 needs one more row at the end to double the size exactly.
        output_padding = 1 if config.kernel_size == 3 else 0
        stages = [
            [
                *_residual_blocks(before, config),
                nn.ConvTranspose2d(before, after, config.kernel_size, 2, 1, output_padding),
                *_after_conv(after, config),
            ]
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        ]
        # The last convolution makes pixels: no normalization, and its own activation.
        stages[-1] = stages[-1][: config.residual_blocks + 1]
        self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.output = config.output

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W, in [-1, 1] unless the output is linear."""
        features = self.head(latents.unflatten(1, self.latent_shape))
        images = self.stages(features.reshape(latents.shape[0], *self.features))
        if self.output == "tanh":
            return images.tanh()
        return images.sigmoid() * 2 - 1 if self.output == "sigmoid" else images


def _after_conv(width: int, config: ConvNetConfig) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.BatchNorm2d(width)] if config.norm == "batch" else []
    layers.append(nn.LeakyReLU(config.negative_slope))
    if config.dropout:
        layers.append(nn.Dropout(config.dropout))
    return layers


def _residual_blocks(width: int, config: ConvNetConfig) -> list[nn.Module]:
    return [ResidualBlock(width, config) for _ in range(config.residual_blocks)]
