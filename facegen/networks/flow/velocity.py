"""The network of a flow: the velocity at which noise becomes latents, given the time and, if it has one, a degree.

Latents that lie on a map are one token for each place, which attend to each other; a vector is a single token, and the
same blocks without attention are an MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facegen.networks.attention import HEAD_CHANNELS
from facegen.networks.conv import set_to_zero
from facegen.networks.degree import DegreeEmbedding

_EMBEDDED = 256
"""Length of the vector that holds time and degree."""
_MAX_FREQUENCY = 1000.0


class LatentShape(NamedTuple):
    """How latents lie in the image: channels at each place of a map; a vector has one place."""

    channels: int
    rows: int
    columns: int

    @property
    def num_places(self) -> int:
        """Places of the map."""
        return self.rows * self.columns


@dataclass
class VelocityConfig:
    """Residual blocks that time and degree modulate (adaLN-zero, Peebles and Xie 2023)."""

    width: int = 1024
    """Features of each token."""
    num_blocks: int = 4
    """Residual blocks."""
    dropout: float = 0.1
    """Share of the features inside a block that is dropped in training."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("width", "num_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"velocity.{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"velocity.dropout must be in [0, 1), not {self.dropout}.")


class VelocityBlock(nn.Module):
    """``x + gate * f(x)`` for attention, where there are several tokens, and for dense layers; starts as identity."""

    def __init__(self, config: VelocityConfig, attends: bool) -> None:
        """Builds for tokens of ``config.width`` features."""
        super().__init__()
        width = config.width
        self.num_heads = max(1, width // HEAD_CHANNELS)
        self.attention = nn.Linear(width, 3 * width) if attends else None
        self.attended = nn.Linear(width, width) if attends else None
        self.dense = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width)
        )
        self.modulation = nn.Linear(_EMBEDDED, (6 if attends else 3) * width)
        set_to_zero(self.modulation)

    def forward(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """Keeps the shape N x places x width; ``embedded`` is N x 256."""
        width = tokens.shape[2]
        scale, shift, gate, *of_attention = self.modulation(embedded)[:, None].split(width, dim=2)
        if self.attention is not None and self.attended is not None:
            attention_scale, attention_shift, attention_gate = of_attention
            attended = self._attend(_modulated(tokens, attention_scale, attention_shift), self.attention)
            tokens = tokens + attention_gate * self.attended(attended)
        return tokens + gate * self.dense(_modulated(tokens, scale, shift))

    def _attend(self, tokens: Tensor, projection: nn.Linear) -> Tensor:
        num, places, width = tokens.shape
        heads = projection(tokens).reshape(num, places, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(tokens.shape)


class VelocityNetwork(nn.Module):
    """Velocity of standardized latents at a time between noise, 0, and data, 1.

    It starts as the exact velocity between standard normal noise and standard normal data, which is linear, and learns
    what faces add to that.
    """

    frequencies: Tensor

    def __init__(self, shape: LatentShape, config: VelocityConfig, conditional: bool) -> None:
        """Builds for latents of ``shape``; a conditional one also takes degrees.

        Raises:
            ValueError: A width that heads of attention cannot share.
        """
        super().__init__()
        width = config.width
        attends = shape.num_places > 1
        if attends and width % HEAD_CHANNELS:
            raise ValueError(f"velocity.width must be a multiple of {HEAD_CHANNELS} for latents on a map, not {width}.")
        self.shape = shape
        self.first = nn.Linear(shape.channels, width)
        self.places = nn.Parameter(0.02 * torch.randn(shape.num_places, width)) if attends else None
        self.blocks = nn.ModuleList(VelocityBlock(config, attends) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, shape.channels)
        set_to_zero(self.last)
        half = _EMBEDDED // 2
        frequencies = _MAX_FREQUENCY ** (torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.of_time = nn.Sequential(nn.Linear(2 * half, _EMBEDDED), nn.SiLU(), nn.Linear(_EMBEDDED, _EMBEDDED))
        self.of_norm = nn.Sequential(nn.Linear(1, _EMBEDDED), nn.SiLU(), nn.Linear(_EMBEDDED, _EMBEDDED))
        self.gain = nn.Linear(_EMBEDDED, shape.channels * shape.num_places)
        set_to_zero(self.gain)
        self.degree = DegreeEmbedding(_EMBEDDED) if conditional else None
        self.of_degree = nn.Linear(_EMBEDDED, _EMBEDDED) if conditional else None

    def forward(self, latents: Tensor, times: Tensor, degrees: Tensor | None = None) -> Tensor:
        """Velocities, N x L.

        Args:
            latents: Standardized, N x L.
            times: N, in [0, 1].
            degrees: N, NaN where unknown; for a conditional network only.
        """
        times = times[:, None]
        angles = times * self.frequencies
        # Faces differ in how far they are from the mean one, and layer norm would hide it.
        log_norm = latents.square().mean(1, keepdim=True).log() / 2
        embedded = self.of_time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.of_norm(log_norm)
        if self.degree is not None and self.of_degree is not None:
            assert degrees is not None
            embedded = embedded + self.of_degree(self.degree(degrees))
        embedded = functional.silu(embedded)
        # One token a place, N x places x channels.
        tokens = self.first(latents.unflatten(1, (self.shape.channels, -1)).transpose(1, 2))
        if self.places is not None:
            tokens = tokens + self.places
        for block in self.blocks:
            tokens = block(tokens, embedded)
        learned = self.last(self.norm(tokens)).transpose(1, 2).flatten(1)
        of_gaussian = (2 * times - 1) / (times.square() + (1 - times).square())
        return (of_gaussian + self.gain(embedded).float()) * latents + learned.float()


def _modulated(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift
