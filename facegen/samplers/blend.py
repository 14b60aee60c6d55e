"""Blends of training faces that look alike, for latents of more dims than a density can learn from some thousand faces.

A draw from a normal distribution takes every latent at random; a blend keeps pose, hair, glasses and light, because the
faces in it share them. It mixes different people, so that it is none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facegen.samplers.base import Latents, Sampler
from shards.base.errors import UserError

_NUM_DRAWS = 10_000
"""Blends whose spread is measured."""
_CHUNK = 1024


@dataclass
class BlendConfig:
    """Latents of a random training face and of some that look like it, blended; nothing is trained, and the sampler
    holds their latents.
    """

    num_faces: int = 4
    """Faces of a blend: with 2 a sample may be known for one of them."""
    num_neighbors: int = 300
    """The other faces come from this many that are nearest to the first, of other people where the data tell; with few
    a sample may be known, with many it has two contours where they differ."""
    max_kept: int = 20_000
    """Maximum number of training faces to blend from."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name, least in (("num_faces", 2), ("num_neighbors", 1), ("max_kept", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")


class BlendSampler(Sampler):
    """``mean + std * scale * ((z_1 - mean) + ... + (z_k - mean)) / k``: z_1 of any face, the others of its neighbors.

    ``scale`` gives each dim the spread that it has over all faces.
    """

    mean: Tensor
    scale: Tensor
    faces: Tensor
    neighbors: Tensor

    def __init__(self, config: BlendConfig, latent_size: int) -> None:
        """Starts without faces."""
        super().__init__(config, latent_size)
        self.noise_size = config.num_faces
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.register_buffer("faces", torch.zeros(0, latent_size, dtype=torch.float16))
        self.register_buffer("neighbors", torch.zeros(0, 0, dtype=torch.int32))

    @classmethod
    def check(cls, config: BlendConfig, num: int, latent_size: int) -> None:
        """Needs as many latents as a blend has faces."""
        if num < config.num_faces:
            raise UserError(f"a blend of {config.num_faces} faces needs as many images, not {num:,}; encode more.")

    def fit(self, latents: Latents, seed: int) -> None:
        """Keeps latents, a random choice where there are more than ``max_kept``, and finds who looks like whom.

        Raises:
            UserError: Fewer latents than faces of a blend, or all of one person.
        """
        self.check(self.config, *latents.mu.shape)
        random = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(latents.mu), generator=random)[: self.config.max_kept]
        persons = None if latents.persons is None else latents.persons[chosen]
        self.neighbors = nearest_others(latents.thumbnails[chosen], persons, self.config.num_neighbors)
        self.neighbors = self.neighbors.to(latents.mu.device)
        self.mean.copy_(latents.mu.mean(0))
        self.faces = (latents.mu[chosen.to(latents.mu.device)] - self.mean).half()
        self.scale.fill_(1)
        drawn = self(torch.randn(_NUM_DRAWS, self.noise_size, generator=random)).std(0)
        spread = latents.mu.std(0)
        self.scale.copy_(torch.where(drawn > 0, spread / drawn, 1))

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x k: each number chooses a face."""
        shares = torch.special.ndtr(noise.cpu().double())
        first = _choice(shares[:, 0], len(self.faces))
        others = self.neighbors.cpu()[first].gather(1, _choice(shares[:, 1:], self.neighbors.shape[1]))
        rows = torch.cat([first[:, None], others.long()], 1).to(self.faces.device)
        return self.mean + std * self.scale * self.faces[rows].float().mean(1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for as many faces and neighbors as there are."""
        for name, own in (("faces", self.faces), ("neighbors", self.neighbors)):
            stored = state_dict.get(f"{prefix}{name}")
            if stored is not None and stored.ndim == 2:
                setattr(self, name, torch.empty_like(stored, dtype=own.dtype, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def nearest_others(thumbnails: Tensor, persons: Tensor | None, num: int) -> Tensor:
    """For each image the ``num`` of other people that are nearest to it in mean squared error, int32, N x ``num``.

    Fewer than ``num`` where an image has fewer others.

    Args:
        thumbnails: float, N x D.
        persons: Their people, int64 N, negative where unknown; None counts each image as a person.
        num: At least 1.

    Raises:
        UserError: All images of one person.
    """
    images = torch.arange(len(thumbnails))
    persons = images if persons is None else torch.where(persons < 0, -1 - images, persons)
    most_of_one = int(persons.unique(return_counts=True)[1].max())
    num = min(num, len(images) - most_of_one)
    if not num:
        raise UserError("a blend needs faces of at least two people, and all of these are of one.")
    nearest = []
    for rows in images.split(_CHUNK):
        distances = torch.cdist(thumbnails[rows], thumbnails)
        distances[persons[rows][:, None] == persons] = torch.inf
        nearest.append(distances.topk(num, largest=False).indices)
    return torch.cat(nearest).int()


def _choice(shares: Tensor, num: int) -> Tensor:
    """Numbers from 0 to ``num - 1``, int64, from shares in [0, 1]."""
    return (shares * num).long().clamp_(max=num - 1)
