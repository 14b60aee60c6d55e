"""The two networks of the smile CVAE: a strided one for RGB faces of 50 pixels, and a dense one for gray faces.

Both take images of any size: the decoder restores exactly the sizes that the encoder passed through.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from torch import Tensor, nn

from facegen.networks.conv_config import ImageShape


class _Stage(NamedTuple):
    width: int
    kernel_size: int
    padding: int


_RGB_STAGES = (_Stage(32, 6, 2), _Stage(64, 5, 2), _Stage(128, 3, 1), _Stage(256, 3, 1))
_RGB_HIDDEN = (1024, 256)
_GRAY_WIDTHS = (16, 32)
_GRAY_HIDDEN = (2048,)


class SmileEncoder(nn.Module):
    """Four stride-2 convolutions with batch norm, then three linear layers; 50 pixels shrink to 25, 13, 7 and 4."""

    def __init__(self, image: ImageShape, out_features: int) -> None:
        """Builds for images of ``image`` and ``out_features`` outputs."""
        super().__init__()
        layers: list[nn.Module] = []
        width = image.channels
        for stage in _RGB_STAGES:
            layers += [
                nn.Conv2d(width, stage.width, stage.kernel_size, stride=2, padding=stage.padding),
                nn.BatchNorm2d(stage.width),
                nn.LeakyReLU(),
            ]
            width = stage.width
        self.stages = nn.Sequential(*layers)
        self.head = _dense(_rgb_shapes(image)[-1].num_pixels, *_RGB_HIDDEN, out_features)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x out_features."""
        return self.head(self.stages(images).flatten(1))


class SmileDecoder(nn.Module):
    """The mirror image of ``SmileEncoder``, with a sigmoid."""

    def __init__(self, image: ImageShape, in_features: int) -> None:
        """Builds for ``in_features`` inputs and images of ``image``."""
        super().__init__()
        shapes = _rgb_shapes(image)
        self.features = shapes[-1]
        self.head = nn.Sequential(_dense(in_features, *reversed(_RGB_HIDDEN), self.features.num_pixels), nn.LeakyReLU())
        layers: list[nn.Module] = []
        for stage, (smaller, larger) in zip(reversed(_RGB_STAGES), itertools.pairwise(reversed(shapes)), strict=True):
            layers += [_doubling(stage, smaller, larger), nn.BatchNorm2d(larger.channels), nn.LeakyReLU()]
        self.stages = nn.Sequential(*layers[:-2])  # The last convolution makes pixels.

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W in [-1, 1]."""
        return self.stages(self.head(latents).unflatten(1, tuple(self.features))).sigmoid() * 2 - 1


class GraySmileEncoder(nn.Module):
    """Two stride-1 convolutions, each averaged down by two, then two linear layers.

    Without the averaging, the first linear layer would have 164 million weights at 50 pixels, and far more at 128.
    """

    def __init__(self, image: ImageShape, out_features: int) -> None:
        """Builds for images of ``image`` and ``out_features`` outputs."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((image.channels, *_GRAY_WIDTHS)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(), nn.AvgPool2d(2)]
        self.stages = nn.Sequential(*layers)
        self.head = _dense(_gray_shapes(image)[-1].num_pixels, *_GRAY_HIDDEN, out_features)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x out_features."""
        return self.head(self.stages(images).flatten(1))


class GraySmileDecoder(nn.Module):
    """The mirror image of ``GraySmileEncoder``, with a sigmoid."""

    def __init__(self, image: ImageShape, in_features: int) -> None:
        """Builds for ``in_features`` inputs and images of ``image``."""
        super().__init__()
        shapes = _gray_shapes(image)
        self.features = shapes[-1]
        self.head = nn.Sequential(
            _dense(in_features, *reversed(_GRAY_HIDDEN), self.features.num_pixels), nn.LeakyReLU()
        )
        layers: list[nn.Module] = []
        for smaller, larger in itertools.pairwise(reversed(shapes)):
            layers += [
                nn.Upsample((larger.height, larger.width)),
                nn.Conv2d(smaller.channels, larger.channels, 3, padding=1),
                nn.BatchNorm2d(larger.channels),
                nn.LeakyReLU(),
            ]
        self.stages = nn.Sequential(*layers[:-2])  # The last convolution makes pixels.

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W in [-1, 1]."""
        return self.stages(self.head(latents).unflatten(1, tuple(self.features))).sigmoid() * 2 - 1


def _dense(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def _rgb_shapes(image: ImageShape) -> list[ImageShape]:
    """Shapes before and after each convolution of the encoder."""
    shapes = [image]
    for stage in _RGB_STAGES:
        height, width = (math.floor((side + 2 * stage.padding - stage.kernel_size) / 2) + 1 for side in shapes[-1][1:])
        shapes.append(ImageShape(stage.width, height, width))
    return shapes


def _gray_shapes(image: ImageShape) -> list[ImageShape]:
    """Shapes before and after each stage of the encoder."""
    shapes = [image]
    for width in _GRAY_WIDTHS:
        shapes.append(ImageShape(width, shapes[-1].height // 2, shapes[-1].width // 2))
    return shapes


def _doubling(stage: _Stage, smaller: ImageShape, larger: ImageShape) -> nn.ConvTranspose2d:
    """The transposed convolution from ``smaller`` to exactly ``larger``."""
    rows, columns = (
        after - (2 * (before - 1) - 2 * stage.padding + stage.kernel_size)
        for before, after in zip(smaller[1:], larger[1:], strict=True)
    )
    return nn.ConvTranspose2d(
        smaller.channels, larger.channels, stage.kernel_size, 2, stage.padding, output_padding=(rows, columns)
    )
