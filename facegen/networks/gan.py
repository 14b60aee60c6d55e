"""The players of adversarial training, after DC-GAN (Radford et al. 2016): a generator and a discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from facegen.networks.conv_config import ImageShape

SMALLEST_SIDE = 4
"""Shorter side of the smallest feature map; up to 7 if the image's is not 4 times a power of 2."""
INIT_STD = 0.02


@dataclass
class GeneratorConfig:
    """Stride-2 transposed convolutions, one for each doubling from 4x4 to the image."""

    width: int = 64
    """Channels before the last transposed convolution; each earlier stage has twice as many."""
    max_width: int = 512
    """Most channels that a stage may have."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        _check_widths("generator", self.width, self.max_width)


@dataclass
class DiscriminatorConfig:
    """Stride-2 convolutions, one for each halving of the image down to 4x4, and one more to a logit."""

    width: int = 64
    """Channels after the first convolution; each later one doubles them."""
    max_width: int = 512
    """Most channels that a stage may have."""
    norm: Literal["batch", "none"] = "batch"
    """Normalization after every convolution but the first and the last."""
    spectral_norm: bool = False
    """Divide each weight by its largest singular value (Miyato et al. 2018)."""
    init: Literal["dcgan", "he"] = "dcgan"
    """First weights: N(0, 0.02) as in Radford et al., or with the variance that keeps that of the features (He et al.
    2015), with which a narrow discriminator learns many times faster."""
    negative_slope: float = 0.2
    """Slope of the leaky ReLU below zero."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        _check_widths("discriminator", self.width, self.max_width)


class Judgment(NamedTuple):
    """A discriminator's output for one group of images."""

    logits: Tensor
    """float32, N; above 0 for images taken for real."""
    features: Tensor | None
    """Activations of the requested stage, float32, N x C x H x W; None without a request."""


def num_halvings(image: ImageShape) -> int:
    """Number of times that the shorter side halves until it is 4 to 7 pixels: 4 at 64, 5 at 128.

    Raises:
        ValueError: Images too small, or a side that cannot be halved as often.
    """
    halvings = (min(image.height, image.width) // SMALLEST_SIDE).bit_length() - 1
    if halvings < 1:
        raise ValueError(
            f"images of {image.height}x{image.width} are too small: pack images of at least 8 pixels a side."
        )
    factor = 2**halvings
    if image.height % factor or image.width % factor:
        raise ValueError(
            f"images of {image.height}x{image.width} cannot be halved {halvings} times: "
            f"pack images whose sides are multiples of {factor}."
        )
    return halvings


def stage_widths(width: int, max_width: int, num_stages: int) -> list[int]:
    """Channels of the stages, from the one next to the image to the smallest."""
    return [min(width * 2**stage, max_width) for stage in range(num_stages)]


class Generator(nn.Module):
    """Latents to images: a linear layer to 4x4, then transposed convolutions, each after batch norm and ReLU."""

    def __init__(self, image: ImageShape, latent_size: int, config: GeneratorConfig) -> None:
        """Builds for ``latent_size`` inputs and images of ``image``."""
        super().__init__()
        halvings = num_halvings(image)
        widths = stage_widths(config.width, config.max_width, halvings)[::-1]
        self.features = ImageShape(widths[0], image.height >> halvings, image.width >> halvings)
        # Batch norm would cancel a bias before it.
        self.head = nn.Linear(latent_size, self.features.num_pixels, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.stages = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], image.channels, 4, 2, 1), nn.Tanh())
        self.apply(init_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents N x L to images N x C x H x W in [-1, 1]."""
        return self.stages(self.head(latents).unflatten(1, tuple(self.features)))


class Discriminator(nn.Module):
    """Images to one logit each: strided convolutions with leaky ReLU; batch norm on all but the first and the last."""

    def __init__(self, image: ImageShape, config: DiscriminatorConfig) -> None:
        """Builds for images of ``image``."""
        super().__init__()
        halvings = num_halvings(image)
        widths = [image.channels, *stage_widths(config.width, config.max_width, halvings)]
        has_norm = [False] + [config.norm == "batch"] * (halvings - 1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 4, 2, 1, bias=not normalized),
                *([nn.BatchNorm2d(after)] if normalized else []),
                nn.LeakyReLU(config.negative_slope),
            )
            for before, after, normalized in zip(widths[:-1], widths[1:], has_norm, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 1, (image.height >> halvings, image.width >> halvings))
        self.apply(init_weights)
        if config.init == "he":
            for layer in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
                nn.init.kaiming_normal_(layer.weight, a=config.negative_slope)
        if config.spectral_norm:
            for layer in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
                spectral_norm(layer)

    def forward(self, groups: Sequence[Tensor], layer: int | None = None) -> list[Judgment]:
        """Judges several groups of images in one forward, as DDP requires.

        Batch norm uses each group's own statistics: those of a mix would reveal how many images are real.

        Args:
            groups: Each N x C x H x W in [-1, 1].
            layer: Stage whose features to return, counted from 0 at the image; None returns none.
        """
        with parametrize.cached():  # One power iteration of the spectral norm for all groups.
            return [self._judge(images, layer) for images in groups]

    def _judge(self, images: Tensor, layer: int | None) -> Judgment:
        values, features = images, None
        for number, stage in enumerate(self.stages):
            values = stage(values)
            features = values if number == layer else features
        # In half precision, squares and means over a batch overflow or vanish.
        return Judgment(self.head(values).flatten().float(), None if features is None else features.float())


def init_weights(module: nn.Module) -> None:
    """DC-GAN's initial weights: N(0, 0.02) for convolutions and linear layers, N(1, 0.02) for batch norm, bias 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, INIT_STD)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _check_widths(name: str, width: int, max_width: int) -> None:
    if not 1 <= width <= max_width:
        raise ValueError(f"{name}.width must be at least 1 and at most max_width, not {width} and {max_width}.")
