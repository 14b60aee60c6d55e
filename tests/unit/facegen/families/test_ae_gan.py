"""The AE-GAN: the AE's error and the game on its reconstructions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from facegen.families.ae_gan import AEGANConfig
from facegen.families.base import TrainBatch
from facegen.randomness import SlotRandom
from tiny_families import IMAGE, tiny_family


def batch_of(num: int) -> TrainBatch:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return TrainBatch(images, {}, SlotRandom(0, 0, slice(0, num), num), 0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_losses_of_both_players(reduction: str) -> None:
    batch, num = batch_of(6), 6
    family = tiny_family("ae_gan", reconstruction=reduction, pixel_weight=2.0, adversarial_weight=0.3).eval()
    networks = dict(family.networks.items())
    reconstructions = family.decode(family.posterior(batch.images, {})[0], {})
    logits = [judged.logits for judged in networks["discriminator"]([batch.images, reconstructions])]
    real, fake = (
        [binary_cross_entropy_with_logits(own, torch.full((num,), target)) for own in logits] for target in (1.0, 0.0)
    )
    torch.testing.assert_close(family.losses("discriminator", networks, batch).loss, real[0] + fake[1])
    losses = family.losses("autoencoder", networks, batch)
    squared = (reconstructions - batch.images).square().flatten(1)
    error = squared.mean() if reduction == "mean" else squared.sum(1).mean()
    torch.testing.assert_close(losses.loss, 2 * error + 0.3 * real[1])
    torch.testing.assert_close(losses.scalars["mse"], squared.mean().detach())
    assert losses.kl_per_dim is None


@pytest.mark.parametrize(
    ("options", "named"),
    [({"latent_size": 0}, "latent_size"), ({"adversarial_weight": -1.0}, "adversarial_weight")],
)
def test_impossible_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AEGANConfig(**options)
