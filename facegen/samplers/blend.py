"""Blends of training faces, for latents of more dims than a density can learn from some thousand faces.

The offsets of k faces from the mean face, summed and divided by the root of k, have the mean and the covariance of the
latents, as draws from a normal distribution have. But such a draw takes every latent at random, and a blend of a few
keeps hair, glasses and light whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facegen.samplers.base import Latents, Sampler
from shards.base.errors import UserError


@dataclass
class BlendConfig:
    """Latents of random training faces, blended; nothing is trained, and the sampler holds their latents."""

    num_faces: int = 4
    """Faces of a blend: with 2 a sample may be known for one of them, with many it is a draw from a normal
    distribution."""
    max_kept: int = 20_000
    """Maximum number of training faces to blend from."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("num_faces", "max_kept"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, not {getattr(self, name)}.")


class BlendSampler(Sampler):
    """``mean + std * (z_1 - mean + ... + z_k - mean) / sqrt(k)`` of random training latents z."""

    mean: Tensor
    faces: Tensor

    def __init__(self, config: BlendConfig, latent_size: int) -> None:
        """Starts without faces."""
        super().__init__(config, latent_size)
        self.noise_size = config.num_faces
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("faces", torch.zeros(0, latent_size, dtype=torch.float16))

    @classmethod
    def check(cls, config: BlendConfig, num: int, latent_size: int) -> None:
        """Needs as many latents as a blend has faces."""
        if num < config.num_faces:
            raise UserError(f"a blend of {config.num_faces} faces needs as many images, not {num:,}; encode more.")

    def fit(self, latents: Latents, seed: int) -> None:
        """Keeps latents, a random choice where there are more than ``max_kept``.

        Raises:
            UserError: Fewer latents than faces of a blend.
        """
        self.check(self.config, *latents.mu.shape)
        chosen = torch.randperm(len(latents.mu), generator=torch.Generator().manual_seed(seed))[: self.config.max_kept]
        self.mean.copy_(latents.mu.mean(0))
        self.faces = (latents.mu[chosen.to(latents.mu.device)] - self.mean).half()

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x k: each number chooses a face."""
        shares = torch.special.ndtr(noise.cpu().double())
        num = len(self.faces)
        first = (shares[:, :1] * num).long()
        others = first + 1 + (shares[:, 1:] * (num - 1)).long()  # Never the first one again.
        rows = (torch.cat([first, others], 1) % num).to(self.faces.device)
        return self.mean + std * self.faces[rows].float().sum(1) / math.sqrt(self.config.num_faces)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for as many faces as there are."""
        if (faces := state_dict.get(f"{prefix}faces")) is not None and faces.shape[1:] == self.faces.shape[1:]:
            self.faces = torch.empty_like(faces, dtype=self.faces.dtype, device=self.faces.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
