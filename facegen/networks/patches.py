"""Images as columns of patches, and the linear maps between patches and latents.

A grid of h x w latents divides an image into h x w patches, each of which has latents of its own; a grid of 1 x 1 is
one patch, the whole image. The linear map is the shortcut around an encoder or a decoder: initialized with principal
components it is the best linear autoencoder, which a stack of convolutions takes long to find (compare the
space-to-channel shortcuts of DC-AE, Chen et al. 2024, arXiv 2410.10733).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Grid(NamedTuple):
    """A grid of patches over an image.

    Attributes:
        channels: Of the image.
        rows: Of patches.
        columns: Of patches.
        height: Pixels of a patch.
        width: Pixels of a patch.
    """

    channels: int
    rows: int
    columns: int
    height: int
    width: int

    @property
    def num_values(self) -> int:
        """Values in a patch."""
        return self.channels * self.height * self.width

    def split(self, images: Tensor) -> Tensor:
        """N x C x H x W to patches, N x num_values x rows x columns."""
        shape = (-1, self.channels, self.rows, self.height, self.columns, self.width)
        return images.reshape(shape).permute(0, 1, 3, 5, 2, 4).reshape(-1, self.num_values, self.rows, self.columns)

    def join(self, patches: Tensor) -> Tensor:
        """N x num_values x rows x columns back to images, N x C x H x W."""
        shape = (-1, self.channels, self.height, self.width, self.rows, self.columns)
        images = patches.reshape(shape).permute(0, 1, 4, 2, 5, 3)
        return images.reshape(-1, self.channels, self.rows * self.height, self.columns * self.width)


class PrincipalComponents(NamedTuple):
    """The mean of images, and the leading principal components of their patches.

    Attributes:
        mean: Mean image, float32, C x H x W in [-1, 1].
        directions: Orthonormal columns, float32, num_values x K.
        variances: Of the patches along the directions, falling, float32, K.
        residual: Mean variance of a direction that is left out; 0 where none is.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    residual: float


class PatchEncoder(nn.Module):
    """Patches to latents, linearly: ``weight (x - mean) + bias`` for each patch of the grid.

    The weight is stored ``sqrt(num_values)`` times as large as it is used ("equalized learning rate", Karras et al.
    2018): its entries are then of order 1, as Adam's steps expect.
    """

    def __init__(self, grid: Grid, channels: int) -> None:
        """Builds for ``channels`` outputs at each place of the grid."""
        super().__init__()
        self.grid = grid
        self.mean = nn.Parameter(torch.zeros(grid.channels, grid.rows * grid.height, grid.columns * grid.width))
        self.weight = nn.Parameter(torch.randn(channels, grid.num_values))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1 / math.sqrt(grid.num_values)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W to N x channels x rows x columns."""
        return _linear(self.gain * self.grid.split(images - self.mean), self.weight, self.bias)

    @torch.no_grad()
    def start_from(self, components: PrincipalComponents, noise_variance: float, has_logvar: bool) -> None:
        """Sets the encoder of the best linear autoencoder, or of the best linear VAE.

        Minimizes ``1/2 SSE + noise_variance * KL`` over linear maps: along direction u of variance l above b =
        noise_variance, ``mu = u^T(x - m) sqrt(l - b) / l`` and ``sigma^2 = b / l``; elsewhere mu = 0 and sigma = 1
        (probabilistic PCA, Tipping and Bishop 1999; Lucas et al. 2019). With b = 0 latents have variance 1.

        Args:
            components: As many as there are latents at a place; more are ignored.
            noise_variance: b, in squared pixel units of [-1, 1].
            has_logvar: Whether the second half of the outputs are log variances.
        """
        channels = len(self.weight) // 2 if has_logvar else len(self.weight)
        directions, variances = _leading(components, channels)
        b = torch.as_tensor(noise_variance, dtype=variances.dtype)
        scale = (variances - b).clamp(min=0).sqrt() / variances
        self.mean.copy_(components.mean)
        self.bias.zero_()
        self.weight.zero_()
        self.weight[:channels] = (directions * scale).T / self.gain
        if has_logvar:
            self.bias[channels:] = (b / variances).clamp(max=1).log()


class PatchDecoder(nn.Module):
    """Latents to patches, linearly: ``weight z + mean``; the weight is equalized as in ``PatchEncoder``."""

    def __init__(self, grid: Grid, channels: int, num_conditions: int = 0) -> None:
        """Builds for ``channels`` inputs at each place of the grid; the last ``num_conditions`` are no latents."""
        super().__init__()
        self.grid = grid
        self.num_latents = channels - num_conditions
        self.mean = nn.Parameter(torch.zeros(grid.channels, grid.rows * grid.height, grid.columns * grid.width))
        self.weight = nn.Parameter(torch.randn(grid.num_values, channels))
        self.gain = 1 / math.sqrt(channels)

    def forward(self, latents: Tensor) -> Tensor:
        """N x channels x rows x columns to images, N x C x H x W."""
        return self.grid.join(_linear(self.gain * latents, self.weight)) + self.mean

    @torch.no_grad()
    def start_from(self, components: PrincipalComponents, noise_variance: float) -> None:
        """Sets the decoder that belongs to ``PatchEncoder.start_from``, ``u sqrt(l - b)``; conditions start at 0."""
        directions, variances = _leading(components, self.num_latents)
        self.mean.copy_(components.mean)
        self.weight.zero_()
        self.weight[:, : self.num_latents] = directions * (variances - noise_variance).clamp(min=0).sqrt() / self.gain


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear map at each place, N x I x rows x columns to N x O x rows x columns; the weight is O x I."""
    if inputs.shape[2:].numel() == 1:
        # A convolution would reorder the weight of a whole image, 75 MB, in every step.
        return functional.linear(inputs.flatten(1), weight, bias)[:, :, None, None]
    return functional.conv2d(inputs, weight[:, :, None, None], bias)


def _leading(components: PrincipalComponents, num: int) -> tuple[Tensor, Tensor]:
    """The first directions and variances; where there are fewer, the others are zero and carry nothing."""
    missing = max(0, num - components.directions.shape[1])
    directions = nn.functional.pad(components.directions[:, :num], (0, missing))
    # A direction in which nothing varies would be divided by zero.
    return directions, nn.functional.pad(components.variances[:num], (0, missing)).clamp(min=1e-12)
