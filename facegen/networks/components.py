"""Encoder and decoder over principal components: the best linear autoencoder, and an MLP that corrects it.

The components of aligned faces say in a few hundred numbers where features lie and how light falls, so that a small MLP
over them learns in minutes what a stack of convolutions over pixels needs hours for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from facegen.networks.patches import Grid, PatchDecoder, PatchEncoder, PrincipalComponents

MLP_GAIN = 0.1
"""Of the MLP's output: the linear map is already good, and Adam's first steps, all of one size, would spoil it."""


@dataclass
class ComponentsConfig:
    """Principal components between pixels and latents, and the MLPs over them."""

    num: int = 0
    """Components of the images, or of each place's patch; 0 maps pixels to latents directly. They stay as --init pca
    finds them."""
    mlp_blocks: int = 2
    """Residual blocks of the MLP from components to latents, and of the one back."""
    mlp_width: int = 512
    """Features between these blocks, which are twice as wide inside."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("num", "mlp_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"components.{name} must not be negative, not {getattr(self, name)}.")
        if self.mlp_width < 1:
            raise ValueError(f"components.mlp_width must be at least 1, not {self.mlp_width}.")


class MLPBlock(nn.Module):
    """``x + f(x)`` with two dense layers in ``f``, which starts at 0."""

    def __init__(self, width: int) -> None:
        """Builds for ``width`` features."""
        super().__init__()
        last = nn.Linear(2 * width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the shape ... x width."""
        return features + self.layers(features)


class MLP(nn.Module):
    """Dense layers over the channels of each place; starts at 0."""

    def __init__(self, channels: int, out_channels: int, config: ComponentsConfig) -> None:
        """Builds for so many channels in and out."""
        super().__init__()
        width = config.mlp_width
        last = nn.Linear(width, out_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        blocks = [MLPBlock(width) for _ in range(config.mlp_blocks)]
        self.layers = nn.Sequential(nn.Linear(channels, width), *blocks, nn.LayerNorm(width), last)

    def forward(self, inputs: Tensor) -> Tensor:
        """N x channels x rows x columns to N x out_channels x rows x columns."""
        return MLP_GAIN * self.layers(inputs.movedim(1, -1)).movedim(-1, 1)


class ComponentEncoder(nn.Module):
    """Images to principal components, and these to latents."""

    def __init__(self, grid: Grid, channels: int, num_vectors: int, config: ComponentsConfig) -> None:
        """Builds for ``channels`` outputs at each place, which are ``num_vectors`` vectors: 2 with log variances."""
        super().__init__()
        self.grid = grid
        size = channels // num_vectors
        self.basis = PatchEncoder(grid, max(config.num, size)).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mlp = MLP(len(self.basis.weight), channels, config)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W to N x channels x rows x columns."""
        components = self.basis(images)
        means = components[:, : len(self.scale)] * self.scale[:, None, None]
        missing = len(self.bias) - len(self.scale)
        linear = functional.pad(means, (0, 0, 0, 0, 0, missing)) + self.bias[:, None, None]
        return linear + self.mlp(components)

    @torch.no_grad()
    def start_from(self, components: PrincipalComponents, noise_variance: float, has_logvar: bool) -> None:
        """Becomes the encoder of the best linear autoencoder or VAE; see ``PatchEncoder.start_from``."""
        self.basis.start_from(components, 0.0, has_logvar=False)
        size = len(self.scale)
        used = _share(components, noise_variance, size)
        self.scale.copy_(used.sqrt())
        self.bias.zero_()
        if has_logvar:
            self.bias[size:] = (1 - used).log()


class ComponentDecoder(nn.Module):
    """Latents to principal components, and these to images."""

    def __init__(self, grid: Grid, channels: int, config: ComponentsConfig, num_conditions: int = 0) -> None:
        """Builds for ``channels`` inputs at each place; the last ``num_conditions`` are no latents: the MLP's alone."""
        super().__init__()
        self.grid = grid
        num_latents = channels - num_conditions
        self.basis = PatchDecoder(grid, max(config.num, num_latents)).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(num_latents))
        self.mlp = MLP(channels, self.basis.weight.shape[1], config)

    def forward(self, latents: Tensor) -> Tensor:
        """N x channels x rows x columns to images, N x C x H x W."""
        missing = self.basis.weight.shape[1] - len(self.scale)
        scaled = latents[:, : len(self.scale)] * self.scale[:, None, None]
        linear = functional.pad(scaled, (0, 0, 0, 0, 0, missing))
        return self.basis(linear + self.mlp(latents))

    @torch.no_grad()
    def start_from(self, components: PrincipalComponents, noise_variance: float) -> None:
        """Becomes the decoder of the best linear autoencoder or VAE; see ``PatchDecoder.start_from``."""
        self.basis.start_from(components, 0.0)
        self.scale.copy_(_share(components, noise_variance, len(self.scale)).sqrt())


def _share(components: PrincipalComponents, noise_variance: float, size: int) -> Tensor:
    """The share (l - b) / l of each component's variance that latents carry, below 1 where b > 0; size."""
    variances = functional.pad(components.variances[:size], (0, max(0, size - len(components.variances))))
    return (1 - noise_variance / variances.clamp(min=1e-12)).clamp(min=0)
