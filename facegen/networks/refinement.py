"""Convolutions over a decoder's image, for what latents and position tell about its detail: edges, hair, skin.

A small U-Net (Ronneberger et al. 2015) over space-to-channel pixels. It starts as identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from facegen.networks.norm import group_norm

OUTPUT_GAIN = 0.1
"""Of the last layer: the correction is about a tenth of an image's deviation."""


@dataclass
class RefinementConfig:
    """The U-Net over the decoder's image."""

    widths: list[int] = field(default_factory=list)
    """Channels at each resolution, which halves from one to the next; none for no refinement."""
    patch: int = 2
    """Side of the squares of pixels that become one place of the first resolution (space-to-channel)."""
    blocks: int = 1
    """Residual blocks at each resolution, on the way down and on the way up."""
    norm: bool = False
    """GroupNorm in the residual blocks."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if any(width < 1 for width in self.widths):
            raise ValueError(f"refinement.widths must be positive, not {self.widths}.")
        if self.patch < 1 or self.blocks < 1:
            raise ValueError(f"refinement.patch and .blocks must be at least 1, not {self.patch} and {self.blocks}.")

    @property
    def reduction(self) -> int:
        """How many pixels of a side become one place of the last resolution."""
        return self.patch * 2 ** (len(self.widths) - 1) if self.widths else 1


class Refinement(nn.Module):
    """``x + f(x)`` over images of one size, with a U-Net in ``f``."""

    def __init__(self, channels: int, height: int, width: int, config: RefinementConfig) -> None:
        """Builds for images of that shape.

        Raises:
            ValueError: Sides that cannot be halved often enough.
        """
        super().__init__()
        if height % config.reduction or width % config.reduction:
            raise ValueError(
                f"refinement needs images whose sides are multiples of {config.reduction}, not {height}x{width}: use "
                "fewer refinement.widths or a smaller refinement.patch."
            )
        values, widths = channels * config.patch**2, config.widths
        self.to_places = nn.PixelUnshuffle(config.patch)
        self.first = nn.Conv2d(values, widths[0], 3, padding=1)
        # Faces are aligned: what a place shows depends on where it is.
        self.position = nn.Parameter(torch.zeros(widths[0], height // config.patch, width // config.patch))
        self.down = nn.ModuleList(_blocks(width, config) for width in widths[:-1])
        self.downsample = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.middle = _blocks(widths[-1], config)
        self.upsample = nn.ModuleList(
            nn.Sequential(nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2)) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.up = nn.ModuleList(_blocks(width, config) for width in widths[:-1])
        self.last = nn.Conv2d(widths[0], values, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.to_pixels = nn.PixelShuffle(config.patch)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        features = self.first(self.to_places(images)) + self.position
        kept = []
        for blocks, downsample in zip(self.down, self.downsample, strict=True):
            kept.append(blocks(features))
            features = downsample(kept[-1])
        features = self.middle(features)
        for blocks, upsample in zip(reversed(self.up), reversed(self.upsample), strict=True):
            features = blocks(kept.pop() + upsample(features))
        return images + OUTPUT_GAIN * self.to_pixels(self.last(nn.functional.gelu(features)))


class RefinementBlock(nn.Module):
    """``x + f(x)`` with two convolutions in ``f``, which starts at 0."""

    def __init__(self, width: int, has_norm: bool) -> None:
        """Builds for ``width`` channels."""
        super().__init__()
        first, last = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.kaiming_normal_(first.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        norm = [group_norm(width)] if has_norm else []
        self.layers = nn.Sequential(*norm, nn.GELU(), first, nn.GELU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the shape N x width x H x W."""
        return features + self.layers(features)


def _blocks(width: int, config: RefinementConfig) -> nn.Sequential:
    return nn.Sequential(*[RefinementBlock(width, config.norm) for _ in range(config.blocks)])
