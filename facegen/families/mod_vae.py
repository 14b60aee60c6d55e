"""ModVAE: a VAE trained on groups in which one factor varies, with all but a few latents clamped.

After the deep convolutional inverse graphics network (Kulkarni et al. 2015). In a group of, say, one person in eleven
poses, only the dims that are *free* for this kind of group may tell the images apart: the decoder gets the group's mean
of all other latents. So the factor that varies must go into the free dims, and everything else out of them.

Augmentation must be off: a flipped image and its unflipped neighbor differ in more than their group's factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from facegen.families.base import FamilyPicture, TrainBatch, TurnLosses
from facegen.families.vae import VAE, Posterior, VAEConfig, VariationalNetwork
from facegen.losses.terms import Term
from facegen.losses.vae import Reduction, reparameterize
from shards.dataset.dataset import Dataset
from shards.loading.groups import GROUP_KIND, GroupKind, GroupUnits

_PICTURE_VALUES = torch.linspace(-2, 2, 9)
_PICTURE_FACES = 2
_PICTURE_DIMS = 4


@dataclass
class ClampedKind(GroupKind):
    """A kind of group, and the latents that may vary in it."""

    free: list[int | str] = field(default_factory=list)
    """Dims that may vary, as numbers from 0 and ranges such as 4-31; the others are clamped to the group's mean."""

    def free_dims(self) -> list[int]:
        """The free dims, with ranges written out.

        Raises:
            ValueError: No dim, a dim named twice, or a text that is neither a number nor a range.
        """
        dims: list[int] = []
        for part in self.free:
            first, _, last = str(part).partition("-")
            if not (first.isdecimal() and (last or first).isdecimal()):
                raise ValueError(f"free takes dims such as 3 and ranges such as 4-31, not '{part}'.")
            dims += range(int(first), int(last or first) + 1)
        if not dims or len(set(dims)) < len(dims):
            raise ValueError(f"free must name at least one dim and each only once, not {self.free} ('{self}').")
        return dims


def _one_person_or_one_pose() -> list[ClampedKind]:
    return [
        ClampedKind(same=["person"], varies="pose", free=[0]),
        ClampedKind(same=["pose"], varies="person", free=["1-31"]),
    ]


@dataclass
class ModVAEConfig(VAEConfig):
    """Options of the ModVAE; images must not be augmented: --augment.flip false."""

    latent_size: int = 32
    """Number of latent dims."""
    kld_weight: float = 10.0
    """Weight of the KL divergence."""
    reconstruction: Reduction = "sum"
    """``sum``: squared error and KL both summed. ``mean``: per pixel value, and the KL divided by latent_size."""
    group_size: int = 11
    """Images of a group; every process and accumulation step gets whole groups."""
    groups: list[ClampedKind] = field(default_factory=_one_person_or_one_pose)
    """The kinds of groups. Default: one person in several poses, and several people in one pose."""
    clamp_weight: float = 0.01
    """Weight of the squared distance of clamped dims from the group's mean, summed over dims, averaged over images."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, not {self.group_size}.")
        if self.clamp_weight < 0:
            raise ValueError(f"clamp_weight must not be negative, not {self.clamp_weight}.")
        if not self.groups:
            raise ValueError("groups must name at least one kind of group.")
        for kind in self.groups:
            if max(kind.free_dims()) >= self.latent_size:
                raise ValueError(
                    f"free {kind.free} ('{kind}') is beyond the last dim, {self.latent_size - 1}; "
                    "name lower dims or raise latent_size."
                )


def group_means(values: Tensor, group_size: int) -> Tensor:
    """For each row of N x L, the mean over its group; groups are ``group_size`` consecutive rows."""
    means = values.unflatten(0, (-1, group_size)).mean(1)
    return means.repeat_interleave(group_size, 0, output_size=len(values))


def clamp_loss(mu: Tensor, free: Tensor, group_size: int) -> Tensor:
    """Squared distance of each image's clamped dims from its group's mean: ``|| (1 - m) * (mu - mean(mu)) ||^2``.

    Args:
        mu: Posterior means N x L, whole groups of ``group_size`` rows.
        free: The mask m, N x L: 1 where a dim may vary, 0 where it is clamped.
        group_size: Images of a group.

    Returns:
        One value an image, N.
    """
    return ((1 - free) * (mu - group_means(mu, group_size))).square().sum(1)


class ClampedNetwork(VariationalNetwork):
    """The VAE's network with the clamp between sampling and decoding."""

    def forward(self, images: Tensor, noise: Tensor, free: Tensor, group_size: int) -> Posterior:  # type: ignore[override]
        """Encodes whole groups, N x C x H x W, samples, replaces clamped latents by the group's mean, and decodes."""
        mu, logvar = self.posterior(images)
        latents = reparameterize(mu, logvar, noise)
        clamped = free * latents + (1 - free) * group_means(latents, group_size)
        return Posterior(self.decoder(clamped), mu, logvar)


class ModVAE(VAE):
    """VAE on groups in which one factor varies, which the group's free dims learn."""

    augmentable = False
    network_class = ClampedNetwork
    config: ModVAEConfig
    _free: Tensor

    def make_network(self) -> nn.Module:
        """Builds the network, and the mask of each kind."""
        config = self.config
        free = torch.zeros(len(config.groups), config.latent_size)
        for mask, kind in zip(free, config.groups, strict=True):
            mask[kind.free_dims()] = 1
        # A buffer, to follow the networks to the device; not saved, since it follows from the config.
        self.register_buffer("_free", free, persistent=False)
        return super().make_network()

    def units(self, dataset: Dataset, split: str, seed: int) -> GroupUnits:
        """Groups of every kind, mixed by their ratios."""
        return GroupUnits(dataset, split, self.config.groups, self.config.group_size, seed)

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Reconstruction + kld_weight * KL + clamp_weight * clamp, over whole groups."""
        config = self.config
        result = self.forward_as_trained(networks, batch)
        objective = self.objective(batch, *result)
        clamp = clamp_loss(result.mu, self._free_of(batch), config.group_size).mean()
        objective.terms["clamp"] = Term(clamp, config.clamp_weight)
        return TurnLosses.of_terms(*objective)

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Posterior:
        """Reconstructions from sampled and clamped latents, and their distribution."""
        config = self.config
        assert len(batch.images) % config.group_size == 0, "a group was cut"
        noise = batch.random.normal("posterior", config.latent_size)
        return networks["autoencoder"](batch.images, noise, self._free_of(batch), config.group_size)

    def _free_of(self, batch: TrainBatch) -> Tensor:
        """The mask of each image's group, N x L."""
        return self._free[batch.labels[GROUP_KIND]]

    def pictures(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, FamilyPicture]:
        """For each kind, a row for each of its first free dims from -2 to 2, around the latents of two faces."""
        mu = cast(Tensor, self.posterior(images[:_PICTURE_FACES], labels)[0])
        values = _PICTURE_VALUES.to(mu)
        drawn = {}
        for number, kind in enumerate(self.config.groups):
            rows = []
            for dim in kind.free_dims()[:_PICTURE_DIMS]:
                for face in mu:
                    row = face.repeat(len(values), 1)
                    row[:, dim] = values
                    rows.append(row)
            name = f"traversal_{number}_{kind.varies or 'images'}"
            drawn[name] = FamilyPicture(self.decode(torch.cat(rows), {}), len(values))
        return drawn
