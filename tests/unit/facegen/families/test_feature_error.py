"""The feature error beside a discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facegen.families.base import Family, TrainBatch
from facegen.families.feature_error import FeatureError
from facegen.perceptual.loss import perceptual_error
from facegen.perceptual.options import FeatureNetConfig
from facegen.randomness import SlotRandom
from tiny_families import IMAGE, tiny_family

GAMES = ["ae_gan", "vae_gan"]
FEATURES = FeatureNetConfig(layers=["stem", "blocks.1"], layer_weights=[2.0, 0.5])
WEIGHT = 0.25


def batch_of(num: int) -> TrainBatch:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return TrainBatch(images, {}, SlotRandom(0, 0, slice(0, num), num), 0)


def losses(family: Family, batch: TrainBatch) -> tuple[Tensor, dict[str, Tensor]]:
    result = family.losses("autoencoder", dict(family.networks.items()), batch)
    return result.loss, result.scalars


@pytest.mark.parametrize("name", GAMES)
def test_the_feature_error_is_one_more_term_of_the_autoencoder(name: str) -> None:
    batch = batch_of(4)
    torch.manual_seed(0)
    plain = tiny_family(name).eval()
    torch.manual_seed(0)
    family = tiny_family(name, perceptual_weight=WEIGHT, features=FEATURES).eval()
    family.load_state_dict(plain.state_dict(), strict=False)
    assert isinstance(family, FeatureError)
    family.prepare(None, torch.device("cpu"))  # type: ignore[arg-type]
    without, _ = losses(plain, batch)
    loss, scalars = losses(family, batch)
    (net,) = family.frozen_networks
    reconstructions = family.forward_as_trained(dict(family.networks.items()), batch).reconstructions
    stem, block = perceptual_error(net, batch.images, reconstructions, "mean")  # type: ignore[arg-type]
    expected = (2 * stem + 0.5 * block).mean()
    torch.testing.assert_close(scalars["perceptual"], expected.detach())
    torch.testing.assert_close(loss, without + WEIGHT * expected)
    last = list(family.networks["autoencoder"].parameters())[-1]
    assert torch.autograd.grad(WEIGHT * expected, last)[0].abs().max() > 0


@pytest.mark.parametrize("name", GAMES)
def test_a_game_without_features_loads_none_and_keeps_its_checkpoints(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facegen.families.feature_error.load_feature_net", lambda *args: pytest.fail("loaded one"))
    family = tiny_family(name)
    family.prepare(None, torch.device("cpu"))  # type: ignore[arg-type]
    assert "perceptual" not in losses(family, batch_of(2))[1]
    assert family.frozen_networks == []
    assert "feature_sha256" not in family.state_dict()
    assert "feature_sha256" in tiny_family(name, perceptual_weight=WEIGHT).state_dict()


@pytest.mark.parametrize("name", GAMES)
def test_options_that_need_a_feature_error(name: str) -> None:
    with pytest.raises(ValueError, match="features has no effect with perceptual_weight 0"):
        tiny_family(name, features=FEATURES)
    with pytest.raises(ValueError, match="perceptual_weight must not be negative, not -1"):
        tiny_family(name, perceptual_weight=-1.0)
    with pytest.raises(ValueError, match="pixel_weight 0 needs a feature_weight or a perceptual_weight"):
        tiny_family(name, pixel_weight=0.0)
    assert tiny_family(name, pixel_weight=0.0, perceptual_weight=WEIGHT)
