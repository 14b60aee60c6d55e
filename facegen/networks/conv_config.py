"""Options of the convolutional encoder and decoder, and the shapes that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from facegen.networks.components import ComponentsConfig
from facegen.networks.refinement import RefinementConfig

_MAX_BLOCKS = 1000


@dataclass
class ConvNetConfig:
    """A stack of convolutions that halve the image, and its mirror image."""

    widths: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    """Channels after each halving convolution of the encoder; the decoder mirrors them. Empty: only the shortcut."""
    kernel_size: int = 4
    """Kernel of every halving convolution; 3 and 4 halve even sizes exactly with padding 1."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalization between each convolution and its activation."""
    negative_slope: float = 0.2
    """Slope of the leaky ReLU below zero."""
    dropout: float = 0.0
    """Share of the outputs of each activation that is dropped, in [0, 1)."""
    output: Literal["tanh", "sigmoid", "linear"] = "tanh"
    """Last activation of the decoder; a sigmoid is rescaled from [0, 1] to [-1, 1]."""
    residual_blocks: int | list[int] = 0
    """Blocks x + f(x) after each convolution of the encoder and before each of the decoder; they start as identity. A
    list has one number for each of widths."""
    bottleneck: Literal["linear", "conv"] = "linear"
    """Layer between features and latents: dense, or a 1x1 convolution, which keeps each latent at its place in the
    image and stays small for many latents."""
    patch: int = 1
    """Side of the squares of pixels that become one place of the first features (space-to-channel). 1 halves the image
    by a convolution instead, as every later stage does."""
    upsample: Literal["transposed", "nearest", "pixel_shuffle"] = "transposed"
    """How the decoder doubles sides: a transposed convolution, nearest-neighbor upsampling and a convolution, or a
    convolution and a pixel shuffle (initialized with ICNR, Aitken et al. 2017)."""
    attention_side: int = 0
    """Self-attention after the residual blocks of features with at most so many rows; 0 for none."""
    shortcut: Literal["none", "linear"] = "none"
    """linear adds a linear map from pixels to latents and back; with ``--init pca`` training starts from the best
    linear autoencoder. Needs output linear."""
    components: ComponentsConfig = field(default_factory=ComponentsConfig)
    """Principal components and MLPs inside the shortcut."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    """Convolutions over the decoder's image."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if min(self.widths, default=1) < 1:
            raise ValueError(f"widths must be positive numbers, not {self.widths}.")
        if self.shortcut == "none" and (not self.widths or self.components.num):
            raise ValueError("a network without widths, or with components.num, needs shortcut linear.")
        if not self.widths and self.bottleneck == "conv":
            raise ValueError("bottleneck conv needs widths.")
        if self.kernel_size not in (3, 4):
            raise ValueError(f"kernel_size must be 3 or 4, not {self.kernel_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}.")
        blocks = self.residual_blocks if isinstance(self.residual_blocks, list) else [self.residual_blocks]
        if not all(0 <= number <= _MAX_BLOCKS for number in blocks):
            raise ValueError(f"residual_blocks must be from 0 to {_MAX_BLOCKS}, not {self.residual_blocks}.")
        if isinstance(self.residual_blocks, list) and len(blocks) != len(self.widths):
            raise ValueError(f"residual_blocks must be a number, or {len(self.widths)} as widths has, not {blocks}.")
        if self.patch < 1 or self.patch & (self.patch - 1):
            raise ValueError(f"patch must be a power of 2, not {self.patch}.")
        if self.attention_side < 0:
            raise ValueError(f"attention_side must not be negative, not {self.attention_side}.")
        if self.shortcut == "linear" and self.output != "linear":
            raise ValueError(f"shortcut linear needs output linear, not {self.output}.")

    @property
    def reduction(self) -> int:
        """How many pixels of a side become one place of the last features."""
        if not self.widths:
            return 1
        return 2 ** len(self.widths) if self.patch == 1 else self.patch * 2 ** (len(self.widths) - 1)

    def num_blocks(self, stage: int) -> int:
        """Residual blocks at a stage of the encoder, from 0."""
        return self.residual_blocks[stage] if isinstance(self.residual_blocks, list) else self.residual_blocks


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
    factor = config.reduction
    if image.height % factor or image.width % factor:
        raise ValueError(
            f"images of {image.height}x{image.width} cannot be halved {factor.bit_length() - 1} times: "
            f"use fewer model.network.widths or pack images whose sides are multiples of {factor}."
        )
    channels = config.widths[-1] if config.widths else image.channels
    return ImageShape(channels, image.height // factor, image.width // factor)


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
