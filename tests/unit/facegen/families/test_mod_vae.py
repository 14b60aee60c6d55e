"""The ModVAE: the clamp before the decoder, its loss, and its groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from facegen.config import config_class
from facegen.families import FAMILIES, options_from_dict
from facegen.families.base import TrainBatch
from facegen.families.mod_vae import ClampedKind, ClampedNetwork, ModVAE, ModVAEConfig, clamp_loss, group_means
from facegen.losses.vae import kl_per_dim
from facegen.networks.conv_config import ConvNetConfig
from facegen.option_values import to_dict
from facegen.options import AugmentConfig, TrainConfig
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tiny_families import IMAGE, tiny_family

GROUP_SIZE, LATENT_SIZE = 3, 6
KINDS = [ClampedKind(same=["a"], free=[0]), ClampedKind(same=["b"], free=["1-3", 5])]
FREE = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1]])


def make(**options: Any) -> ModVAE:
    defaults = {
        "groups": KINDS,
        "group_size": GROUP_SIZE,
        "reconstruction": "sum",
        "network": ConvNetConfig(widths=[8, 16], norm="none"),
    }
    family = tiny_family("mod_vae", **defaults | options)
    assert isinstance(family, ModVAE)
    return family


def batch_of(kinds: list[int], seed: int = 3) -> TrainBatch:
    num = GROUP_SIZE * len(kinds)
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    labels = {"group_kind": torch.tensor(kinds).repeat_interleave(GROUP_SIZE)}
    return TrainBatch(images, labels, SlotRandom(0, 0, slice(0, num), num), 0)


def decoded_latents(family: ModVAE, batch: TrainBatch) -> Tensor:
    """The decoder's input in training."""
    network, seen = family.networks["autoencoder"], []
    hook = network.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[union-attr,operator]
    family.losses("autoencoder", dict(family.networks.items()), batch)
    hook.remove()
    return seen[0]


def test_group_means_by_hand() -> None:
    values = torch.tensor([[1.0, 0], [3, 0], [10, 1], [20, 3]])
    assert group_means(values, 2).tolist() == [[2, 0], [2, 0], [15, 2], [15, 2]]


def test_only_free_dims_tell_the_images_of_a_group_apart() -> None:
    family, batch = make(), batch_of([0, 1, 0])
    latents = decoded_latents(family, batch).unflatten(0, (-1, GROUP_SIZE))
    spread = latents.amax(1) - latents.amin(1) > 1e-6
    assert torch.equal(spread, FREE[[0, 1, 0]].bool())
    # The mean is over the group's sampled latents, which the free dims keep.
    mu, logvar = family.posterior(batch.images, {})
    assert logvar is not None
    sampled = mu + (0.5 * logvar).exp() * batch.random.normal("posterior", LATENT_SIZE)
    sampled = sampled.unflatten(0, (-1, GROUP_SIZE))
    expected = torch.where(FREE[[0, 1, 0]].bool()[:, None], sampled, sampled.mean(1, keepdim=True))
    torch.testing.assert_close(latents, expected)


def test_groups_do_not_see_each_other() -> None:
    family = make()
    one, two = batch_of([0, 1]), batch_of([0, 1])
    two.images[GROUP_SIZE:] = -two.images[GROUP_SIZE:]
    first, second = decoded_latents(family, one), decoded_latents(family, two)
    torch.testing.assert_close(first[:GROUP_SIZE], second[:GROUP_SIZE], rtol=0, atol=0)
    assert not torch.allclose(first[GROUP_SIZE:], second[GROUP_SIZE:])


def test_the_clamp_loss_by_hand() -> None:
    mu = torch.tensor([[5.0, 1, 0], [1, 3, 0], [0, 0, 7]])
    # Means 2, 4/3 and 7/3; the first dim is free.
    expected = [(1 / 3) ** 2 + (7 / 3) ** 2, (5 / 3) ** 2 + (7 / 3) ** 2, (4 / 3) ** 2 + (14 / 3) ** 2]
    free = torch.tensor([1.0, 0, 0]).expand(3, 3)
    torch.testing.assert_close(clamp_loss(mu, free, 3), torch.tensor(expected))


def test_the_clamp_acts_on_the_clamped_dims_and_leaves_the_free_ones_alone() -> None:
    # The reference penalized the norm of the free dims.
    mu = torch.randn(4 * GROUP_SIZE, LATENT_SIZE, requires_grad=True)
    free = FREE[[0, 1, 1, 0]].repeat_interleave(GROUP_SIZE, 0)
    clamp_loss(mu, free, GROUP_SIZE).sum().backward()
    assert mu.grad is not None
    assert torch.equal(mu.grad != 0, free == 0)
    # The group's mean is not penalized: the gradient only pulls its images together.
    torch.testing.assert_close(
        mu.grad.unflatten(0, (-1, GROUP_SIZE)).sum(1), torch.zeros(4, LATENT_SIZE), atol=1e-5, rtol=0
    )
    assert clamp_loss(torch.ones(GROUP_SIZE, LATENT_SIZE), FREE[[0] * 3], GROUP_SIZE).sum() == 0


def test_the_clamp_reaches_the_encoder_through_the_clamped_dims_only() -> None:
    def bias_gradient(clamp_weight: float) -> Tensor:
        family = make(clamp_weight=clamp_weight)
        family.losses("autoencoder", dict(family.networks.items()), batch_of([0])).loss.backward()
        return family.networks["autoencoder"].encoder.head.weight.grad[:LATENT_SIZE]  # type: ignore[union-attr,index]

    difference = (bias_gradient(100.0) - bias_gradient(0.0)).abs().amax(1)
    assert torch.equal(difference > 1e-4, FREE[0] == 0)


def test_the_objective_term_by_term() -> None:
    family, batch = make(kld_weight=10.0, clamp_weight=0.01), batch_of([0, 1])
    scalars = family.losses("autoencoder", dict(family.networks.items()), batch).scalars
    mu, logvar = family.posterior(batch.images, {})
    assert logvar is not None
    clamp = clamp_loss(mu, FREE[[0, 1]].repeat_interleave(GROUP_SIZE, 0), GROUP_SIZE).mean()
    torch.testing.assert_close(scalars["clamp"], clamp)
    torch.testing.assert_close(scalars["kl"], kl_per_dim(mu, logvar).sum(1).mean())
    expected = scalars["reconstruction"] + 10 * scalars["kl"] + 0.01 * scalars["clamp"]
    torch.testing.assert_close(scalars["loss"], expected)
    assert scalars["beta_eff"].item() == family.decoder_variance == 5.0


def test_a_split_group_is_an_error() -> None:
    family, batch = make(), batch_of([0, 1])
    cut = TrainBatch(batch.images[:4], {"group_kind": batch.labels["group_kind"][:4]}, batch.random, 0)
    with pytest.raises(AssertionError, match="cut"):
        family.losses("autoencoder", dict(family.networks.items()), cut)


def test_the_defaults_are_the_references() -> None:
    config = ModVAEConfig()
    assert (config.latent_size, config.group_size) == (32, 11)
    assert (config.kld_weight, config.clamp_weight, config.reconstruction) == (10.0, 0.01, "sum")
    assert [kind.free_dims() for kind in config.groups] == [[0], list(range(1, 32))]
    assert [(kind.same, kind.varies) for kind in config.groups] == [(["person"], "pose"), (["pose"], "person")]


def test_the_mask_is_not_saved_but_follows_from_the_config() -> None:
    family = make()
    assert not any("free" in name for name in family.state_dict())
    config = config_class("mod_vae")(data="d", run="r", model=family.config)  # type: ignore[call-arg]
    written = to_dict(config)["model"]
    assert written["groups"][1] == {"same": ["b"], "varies": None, "where": [], "ratio": 1, "free": ["1-3", 5]}
    assert options_from_dict("mod_vae", written) == family.config


def test_pictures_move_the_free_dims_of_each_kind() -> None:
    family = make().eval()
    pictures = family.pictures(batch_of([0]).images, {})
    assert list(pictures) == ["traversal_0_images", "traversal_1_images"]
    assert [len(picture.images) for picture in pictures.values()] == [2 * 9, 4 * 2 * 9]
    rows = pictures["traversal_0_images"].images.unflatten(0, (2, 9))
    assert (rows[:, 1:] - rows[:, :-1]).abs().amax((2, 3, 4)).min() > 0
    mu = family.posterior(batch_of([0]).images[:1], {})[0].detach().clone()
    mu[:, 0] = 2.0
    torch.testing.assert_close(rows[0, -1:], family.decode(mu, {}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_size": 1}, "group_size"),
        ({"clamp_weight": -1.0}, "clamp_weight"),
        ({"groups": []}, "at least one kind"),
        ({"groups": [ClampedKind(free=[])]}, "at least one dim"),
        ({"groups": [ClampedKind(free=[3, "2-4"])]}, "each only once"),
        ({"groups": [ClampedKind(free=["4-2"])]}, "at least one dim"),
        ({"groups": [ClampedKind(free=["x"])]}, "ranges such as 4-31, not 'x'"),
        ({"groups": [ClampedKind(free=[-1])]}, "not '-1'"),
        ({"groups": [ClampedKind(same=["pose"], free=["0-32"])]}, "'same pose'.* beyond the last dim, 31"),
        ({"decoder_sigma": "learned", "kld_weight": 1.0}, None),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str | None) -> None:
    with pytest.raises(ValueError, match=message or "cannot learn its variance"):
        config = FAMILIES["mod_vae"].config_class(**options)
        FAMILIES["mod_vae"].family_class(config, IMAGE)


@pytest.mark.parametrize(
    ("augment", "advice"),
    [
        (AugmentConfig(), "set --augment.flip false."),
        (AugmentConfig(flip=False, brightness=0.2), "set --augment.brightness 0."),
        (AugmentConfig(contrast=0.1), "set --augment.flip false --augment.contrast 0."),
    ],
)
def test_augmentation_is_refused(augment: AugmentConfig, advice: str, tiny_config: Callable[..., TrainConfig]) -> None:
    # Mirroring changes the pose, and only one factor may differ within a group.
    with pytest.raises(UserError, match=f"mod_vae learns from the differences .*{advice}$"):
        Trainer(tiny_config("mod_vae", augment=augment))


def test_missing_labels_are_refused(tiny_dataset: Any) -> None:
    with pytest.raises(UserError, match="no label 'a'"):
        make().units(Dataset(tiny_dataset), "train", 0)


def test_the_network_is_the_vaes_with_a_clamp() -> None:
    ours, vae = make(), tiny_family("vae", network=ConvNetConfig(widths=[8, 16], norm="none"))
    assert isinstance(ours.networks["autoencoder"], ClampedNetwork)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in vae.state_dict().items()
    }
