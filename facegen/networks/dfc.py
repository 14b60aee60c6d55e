"""The nets of the deep feature consistent VAE, as in facenet's three generative models.

Strided convolutions down; nearest-neighbor upsampling and convolutions up, which avoid checkerboards (Hou et al. 2017);
a linear output; optionally residual blocks after each change of size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor, nn

from facegen.networks.conv_config import ConvNetConfig, ImageShape, feature_shape

NEGATIVE_SLOPE = 0.1
RESIDUAL_SCALE = 0.1
_ENCODER_KERNEL, _DECODER_KERNEL = 4, 3


@dataclass
class DFCNetConfig:
    """Encoder and decoder of a DFC-VAE."""

    widths: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    """Channels after each stride-2 convolution of the encoder."""
    decoder_widths: list[int] = field(default_factory=lambda: [256, 128, 64, 32])
    """Channels of the decoder's smallest feature map, and after each doubling but the last, which makes the image; as
    many numbers as widths."""
    num_residual_blocks: int = 0
    """Residual blocks after each change of size, in encoder and decoder."""
    norm_momentum: float = 0.005
    """Weight of the newest batch in batch norm's running averages; raise it for short trainings."""
    init_std: float = 0.1
    """Deviation of the truncated normal of the initial weights. The reference's 0.1 starts posteriors far from the
    prior, at a KL of some 100,000 nats; 0.02 suits short trainings."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("widths", "decoder_widths"):
            widths = getattr(self, name)
            if not widths or min(widths) < 1:
                raise ValueError(f"{name} must be at least one positive number, not {widths}.")
        if len(self.widths) != len(self.decoder_widths):
            raise ValueError(f"decoder_widths {self.decoder_widths} must have as many numbers as widths {self.widths}.")
        if self.num_residual_blocks < 0:
            raise ValueError(f"num_residual_blocks must not be negative, not {self.num_residual_blocks}.")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum must be in (0, 1], not {self.norm_momentum}.")
        if self.init_std <= 0:
            raise ValueError(f"init_std must be positive, not {self.init_std}.")


class DFCEncoder(nn.Module):
    """Images to a vector; one head stands for the reference's two dense layers, of mean and log variance."""

    def __init__(self, image: ImageShape, out_features: int, config: DFCNetConfig) -> None:
        """Builds for images of ``image`` and ``out_features`` outputs.

        Raises:
            ValueError: Images that cannot be halved by every stage.
        """
        super().__init__()
        height, width = _smallest(image, config)
        layers: list[nn.Module] = []
        for before, after in pairwise([image.channels, *config.widths]):
            layers.append(nn.Conv2d(before, after, _ENCODER_KERNEL, stride=2, padding=1, bias=False))
            layers += _activated(after, config)
            layers += _residual_blocks(after, _ENCODER_KERNEL, config)
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(config.widths[-1] * height * width, out_features)
        _init_truncated(self, config.init_std)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x out_features."""
        return self.head(self.stages(images).flatten(1))


class DFCDecoder(nn.Module):
    """A vector to images."""

    def __init__(self, image: ImageShape, in_features: int, config: DFCNetConfig) -> None:
        """Builds for ``in_features`` inputs and images of ``image``."""
        super().__init__()
        self.features = ImageShape(config.decoder_widths[0], *_smallest(image, config))
        self.head = nn.Linear(in_features, self.features.num_pixels)
        layers: list[nn.Module] = []
        for before, after in pairwise(config.decoder_widths):
            layers += _doubled(before, after, config)
        last = config.decoder_widths[-1]
        if config.num_residual_blocks:
            # The reference's blocks at full size work on as many channels as the image has.
            layers += [*_doubled(last, image.channels, config), _conv(image.channels, image.channels, bias=True)]
        else:
            layers += [nn.Upsample(scale_factor=2), _conv(last, image.channels, bias=True)]
        self.stages = nn.Sequential(*layers)
        _init_truncated(self, config.init_std)

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W, nominally in [-1, 1]."""
        return self.stages(self.head(latents).unflatten(1, tuple(self.features)))


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that learns a shift and no scale, as TensorFlow-slim's does by default."""

    def __init__(self, num_features: int, momentum: float) -> None:
        """Builds for ``num_features`` channels."""
        super().__init__(num_features, eps=1e-3, momentum=momentum, affine=False)
        self.bias = nn.Parameter(self.running_mean.new_zeros(num_features))  # type: ignore[union-attr]


class ScaledResidualBlock(nn.Module):
    """x + 0.1 * LReLU(BN(conv(x))); an even kernel pads one more at the end, like TensorFlow's "same"."""

    def __init__(self, width: int, kernel_size: int, config: DFCNetConfig) -> None:
        """Builds for ``width`` channels."""
        super().__init__()
        before, after = (kernel_size - 1) // 2, kernel_size // 2
        self.layers = nn.Sequential(
            nn.ZeroPad2d((before, after, before, after)),
            nn.Conv2d(width, width, kernel_size, bias=False),
            *_activated(width, config),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Keeps the shape N x width x H x W."""
        return inputs + RESIDUAL_SCALE * self.layers(inputs)


def _smallest(image: ImageShape, config: DFCNetConfig) -> tuple[int, int]:
    """Height and width between encoder and decoder."""
    shape = feature_shape(image, ConvNetConfig(widths=config.widths))
    return shape.height, shape.width


def _doubled(before: int, after: int, config: DFCNetConfig) -> list[nn.Module]:
    blocks = _residual_blocks(after, _DECODER_KERNEL, config)
    return [nn.Upsample(scale_factor=2), _conv(before, after, bias=False), *_activated(after, config), *blocks]


def _conv(before: int, after: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(before, after, _DECODER_KERNEL, padding=1, bias=bias)


def _activated(width: int, config: DFCNetConfig) -> list[nn.Module]:
    return [ShiftBatchNorm2d(width, config.norm_momentum), nn.LeakyReLU(NEGATIVE_SLOPE)]


def _residual_blocks(width: int, kernel_size: int, config: DFCNetConfig) -> list[nn.Module]:
    return [ScaledResidualBlock(width, kernel_size, config) for _ in range(config.num_residual_blocks)]


def _init_truncated(network: nn.Module, std: float) -> None:
    """Draws weights from a normal cut at two deviations, as TensorFlow's truncated normal is; sets biases to 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
