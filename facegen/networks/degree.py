"""A degree as the input of a network, and as a prediction from latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HIDDEN = 128


class DegreeEmbedding(nn.Module):
    """A degree as a vector: the degree itself in every column, or a learned vector if it is unknown.

    The learned vector starts as the degree 0.
    """

    def __init__(self, size: int) -> None:
        """Builds vectors of length ``size``."""
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(size))

    def forward(self, degrees: Tensor) -> Tensor:
        """Degrees N, NaN where unknown, to N x size."""
        known = ~degrees.isnan()
        return torch.where(known[:, None], degrees.nan_to_num()[:, None], self.unknown)


class DegreePredictor(nn.Module):
    """Predicts a degree from latents, with one hidden layer."""

    def __init__(self, latent_size: int) -> None:
        """Builds for latents of ``latent_size`` dims."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent_size, _HIDDEN), nn.LeakyReLU(0.2), nn.Linear(_HIDDEN, 1))

    def forward(self, latents: Tensor) -> Tensor:
        """N x L to degrees N."""
        return self.layers(latents).float().squeeze(1)
