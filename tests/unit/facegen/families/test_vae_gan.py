"""The VAE-GAN: its three equal groups, the balance of the players, and the terms beside the VAE's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.vae_gan import VAEGAN, VAEGANConfig
from facegen.losses import adversarial
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.gan import DiscriminatorConfig, Judgment
from facegen.options import TrainConfig
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from tiny_families import IMAGE, tiny_family

UNNORMALIZED = DiscriminatorConfig(8, 16, norm="none")
TURNS = ("discriminator", "autoencoder")


def make(**options: Any) -> VAEGAN:
    """A family in eval mode, so that losses can be recalculated by hand."""
    family = tiny_family("vae_gan", **options).eval()
    assert isinstance(family, VAEGAN)
    return family


def batch_of(num: int = 6, images_seen: int = 0) -> TrainBatch:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return TrainBatch(images, {}, SlotRandom(0, images_seen, slice(0, num), num), images_seen)


def take_turn(family: VAEGAN, turn: str, batch: TrainBatch) -> TurnLosses:
    """A turn's losses, with the other networks frozen as the trainer does."""
    for name, network in family.networks.items():
        network.requires_grad_(name == turn)
    return family.losses(turn, dict(family.networks.items()), batch)


def judged(family: VAEGAN, turn: str, batch: TrainBatch) -> tuple[TurnLosses, list[Tensor], list[Judgment]]:
    """A turn's losses, and the discriminator's groups and judgments."""
    groups: list[Tensor] = []
    judgments: list[Judgment] = []

    def keep(module: Any, args: Any, output: list[Judgment]) -> None:
        groups.extend(args[0])
        judgments.extend(output)

    handle = family.networks["discriminator"].register_forward_hook(keep)
    losses = take_turn(family, turn, batch)
    handle.remove()
    return losses, groups, judgments


def decoded(family: VAEGAN, batch: TrainBatch, turn: str) -> tuple[Tensor, Tensor]:
    """The expected reconstructions and samples of a turn."""
    noise, prior = (batch.random.normal(f"{name}_{turn}", 6) for name in ("posterior", "prior"))
    mu, logvar = family.posterior(batch.images, {})
    assert logvar is not None
    return family.decode(mu + noise * (0.5 * logvar).exp(), {}), family.decode(prior, {})


# The discriminator's turn.


def test_the_discriminator_gets_equal_thirds_with_the_right_targets() -> None:
    family, batch = make(), batch_of()
    losses, groups, judgments = judged(family, "discriminator", batch)
    assert [len(group) for group in groups] == [6, 6, 6]
    for group, expected in zip(groups, [batch.images, *decoded(family, batch, "discriminator")], strict=True):
        torch.testing.assert_close(group, expected)
    targets = (1.0, 0.0, 0.0)
    entropies = [
        binary_cross_entropy_with_logits(judgment.logits, torch.full((6,), target))
        for judgment, target in zip(judgments, targets, strict=True)
    ]
    torch.testing.assert_close(losses.loss, entropies[0] + 0.5 * (entropies[1] + entropies[2]))
    torch.testing.assert_close(losses.scalars["d_loss_real"], entropies[0].detach())
    torch.testing.assert_close(losses.scalars["d_loss_fake"], 0.5 * (entropies[1] + entropies[2]).detach())


@pytest.mark.parametrize("options", [{"r1_weight": 2.0}, {"lecam_weight": 0.5}], ids=["r1", "lecam"])
def test_penalties_are_added_with_their_weights(options: dict[str, float]) -> None:
    family = make(discriminator=UNNORMALIZED, **options)
    scalars = take_turn(family, "discriminator", batch_of())
    (name, weight), term = next(iter(options.items())), next(iter(options)).split("_")[0]
    assert scalars.scalars[term] > 0, name
    torch.testing.assert_close(
        scalars.loss.detach(), scalars.scalars["d_loss"] + weight * scalars.scalars[term], rtol=1e-5, atol=1e-7
    )


def test_lecam_pulls_each_side_to_the_average_of_the_other() -> None:
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([-1.0, 0.0, 1.0])
    penalty = adversarial.lecam_penalty(real, fake, real_anchor=3.0, fake_anchor=-1.0)
    assert penalty.item() == pytest.approx((9 + 25) / 2 + (16 + 9 + 4) / 3)
    family = make(lecam_weight=0.1)
    for _ in range(2):
        family.observe({"d_logit_real": 1.0, "d_logit_fake": -2.0})
    assert family.get_buffer("d_logits").tolist() == pytest.approx([1 - 0.99**2, -2 * (1 - 0.99**2)])


# The autoencoder's turn.


def test_the_autoencoder_adds_the_game_on_both_generated_groups_to_the_vae() -> None:
    batch = batch_of()
    family = make(adversarial_weight=0.3)
    losses, groups, judgments = judged(family, "autoencoder", batch)
    assert [len(group) for group in groups] == [6, 6]
    for group, expected in zip(groups, decoded(family, batch, "autoencoder"), strict=True):
        torch.testing.assert_close(group, expected)
    game = sum(binary_cross_entropy_with_logits(judgment.logits, torch.ones(6)) for judgment in judgments)
    scalars = losses.scalars
    vae = scalars["mse"] + family.config.kld_weight * scalars["kl"] / 6
    torch.testing.assert_close(losses.loss, vae + 0.3 * game)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gan_loss": "hinge", "lecam_weight": 0.1},
        {"discriminator": UNNORMALIZED, "r1_weight": 1.0},
        {"adaptive_weight": True, "feature_weight": 1.0, "feature_layer": 1, "pixel_weight": 0.0},
    ],
    ids=["bce", "lecam", "r1", "features"],
)
def test_only_the_player_whose_turn_it_is_gets_a_gradient(turn: str, options: dict[str, Any]) -> None:
    family = make(**options).train()
    take_turn(family, turn, batch_of()).loss.backward()
    for name, parameter in family.named_parameters():
        assert (parameter.grad is not None) == (turn in name), name


def test_until_its_start_the_game_changes_nothing() -> None:
    family = make(adversarial_start_images=100, adversarial_weight=5.0)
    early, late = (take_turn(family, "autoencoder", batch_of(images_seen=seen)) for seen in (99, 100))
    assert early.scalars["adversarial_weight"] == 0
    scalars = early.scalars
    torch.testing.assert_close(
        early.loss.detach(), scalars["mse"] + family.config.kld_weight * scalars["kl"] / 6, rtol=1e-6, atol=1e-7
    )
    assert late.loss > early.loss + 5
    updates = {
        (turn, seen): take_turn(family, turn, batch_of(images_seen=seen)).update for turn in TURNS for seen in (99, 100)
    }
    assert [key for key, update in updates.items() if not update] == [("discriminator", 99)]


@pytest.mark.parametrize("turn", TURNS)
def test_without_samples_only_reconstructions_play(turn: str) -> None:
    family, batch = make(judges_samples=False), batch_of()
    _, groups, _ = judged(family, turn, batch)
    reconstructions, _ = decoded(family, batch, turn)
    expected = [batch.images, reconstructions] if turn == "discriminator" else [reconstructions]
    for group, other in zip(groups, expected, strict=True):
        torch.testing.assert_close(group, other)


# Feature matching.


def test_features_of_the_chosen_stage_are_matched() -> None:
    batch = batch_of()
    for layer in (0, 1):
        family = make(feature_weight=2.0, feature_layer=layer, adversarial_weight=0.0)
        losses, groups, judgments = judged(family, "autoencoder", batch)
        assert torch.equal(groups[2], batch.images)
        ours, real = judgments[0].features, judgments[2].features
        assert ours is not None and real is not None and ours.shape[1] == 8 * 2**layer
        expected = (ours - real).square().mean()
        torch.testing.assert_close(losses.scalars["feature_mse"], expected.detach())
        scalars = losses.scalars
        vae = scalars["mse"] + family.config.kld_weight * scalars["kl"] / 6
        torch.testing.assert_close(losses.loss, vae + 2 * expected)


def test_without_game_and_features_the_pixel_weight_sets_the_variance() -> None:
    for pixel_weight in (1.0, 4.0):
        family = make(pixel_weight=pixel_weight, adversarial_weight=0.0)
        expected = family.config.kld_weight * IMAGE.num_pixels / (2 * 6 * pixel_weight)
        assert family.decoder_variance == pytest.approx(expected)
        logged = take_turn(family, "autoencoder", batch_of()).scalars["beta_eff"]
        assert logged.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "options", [{}, {"feature_weight": 1.0, "feature_layer": 1, "adversarial_weight": 0.0}], ids=["game", "features"]
)
def test_neither_game_nor_features_have_a_likelihood(options: dict[str, float]) -> None:
    family = make(**options)
    assert family.decoder_variance is None
    assert "beta_eff" not in take_turn(family, "autoencoder", batch_of()).scalars


def test_features_alone_teach_encoder_and_decoder() -> None:
    family = make(feature_weight=1.0, feature_layer=1, pixel_weight=0.0, adversarial_weight=0.0, kld_weight=0.0)
    losses = take_turn(family, "autoencoder", batch_of())
    torch.testing.assert_close(losses.loss.detach(), losses.scalars["feature_mse"], rtol=1e-5, atol=1e-8)
    losses.loss.backward()
    for name, parameter in family.networks["autoencoder"].named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


# The adaptive weight.


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    assert adversarial.adaptive_weight(0.5, 2.0) == pytest.approx(0.25)
    assert adversarial.adaptive_weight(1.0, 0.0) == 1e4
    family, batch = make(adaptive_weight=True, adversarial_weight=0.5), batch_of()
    first = take_turn(family, "autoencoder", batch).scalars
    assert first["adversarial_weight"] == 0  # Nothing is observed yet.
    family.observe({name: first[name].item() for name in family.observes})
    losses, _, judgments = judged(family, "autoencoder", batch)
    weight = losses.scalars["adversarial_weight"].item()
    mse = (decoded(family, batch, "autoencoder")[0] - batch.images).square().mean()
    game = adversarial.generator_loss(judgments[0].logits, "bce") + adversarial.generator_loss(
        judgments[1].logits, "bce"
    )
    lengths = [
        torch.autograd.grad(term, family.last_weight, retain_graph=True)[0].norm().item() for term in (mse, game)
    ]
    assert weight == pytest.approx(0.5 * lengths[0] / lengths[1], rel=1e-4)
    assert family.last_weight.shape[:2] == (8, 3)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_of_sums_and_means_are_measured_in_half_precision(reduction: str) -> None:
    # The factor that keeps the gradient of a mean from vanishing makes that of a sum overflow float16.
    torch.manual_seed(0)
    layer, features = torch.nn.ConvTranspose2d(8, 3, 4, 2, 1), torch.rand(4, 8, 32, 32)
    norms = []
    for half in (False, True):
        with torch.autocast("cpu", torch.float16, enabled=half):
            squared = (layer(features).tanh() - 0.9).square().flatten(1)
            loss = (squared.sum(1) if reduction == "sum" else 1e-5 * squared.mean(1)).mean()
            norms.append(adversarial.gradient_norm(loss, layer.weight))
    assert norms[1].dtype == torch.float32
    torch.testing.assert_close(norms[1], norms[0], rtol=0.01, atol=0)


def test_small_differences_of_features_do_not_vanish_in_half_precision() -> None:
    discriminator = make().networks["discriminator"]
    with torch.autocast("cpu", torch.float16):
        (judged,) = discriminator([batch_of().images], 1)
    assert judged.logits.dtype == judged.features.dtype == torch.float32


# Equilibrium margins.


@pytest.mark.parametrize(
    ("on_real", "on_fakes", "learns"),
    [
        (0.68, 0.68, (True, True)),
        (0.34, 0.34, (True, True)),
        (0.32, 0.68, (False, True)),
        (0.68, 0.32, (False, True)),
        (1.04, 0.68, (True, False)),
        (0.68, 1.04, (True, False)),
        (0.32, 1.04, (True, True)),
    ],
)
def test_a_player_that_leads_by_more_than_the_margin_waits(
    on_real: float, on_fakes: float, learns: tuple[bool, bool]
) -> None:
    assert adversarial.players_in_turn(on_real, on_fakes, 0.68, 0.35) == learns
    family, batch = make(equilibrium_margin=0.35), batch_of()
    assert all(take_turn(family, turn, batch).update for turn in TURNS)  # Nothing is observed yet.
    family.observe({"d_loss_real": on_real, "d_loss_fake": on_fakes})
    assert tuple(take_turn(family, turn, batch).update for turn in TURNS) == learns


def test_training_skips_the_turns_that_the_previous_step_decides(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    config = tiny_config("vae_gan", model={"equilibrium_margin": 0.02}, max_steps=12)
    trainer = Trainer(config)
    before = {name: [p.clone() for p in network.parameters()] for name, network in trainer.family.networks.items()}
    expected, seen = (True, True), set()

    def check(trainer: Trainer, _: Any, terms: dict[str, Tensor]) -> None:
        nonlocal expected, before
        after = {name: [p.clone() for p in network.parameters()] for name, network in trainer.family.networks.items()}
        learned = tuple(not all(map(torch.equal, before[turn], after[turn])) for turn in TURNS)
        assert learned == expected
        seen.add(learned)
        expected = adversarial.players_in_turn(
            terms["d_loss_real"].item(), terms["d_loss_fake"].item(), trainer.family.config.equilibrium, 0.02
        )
        before = after

    trainer.fit(check)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
        ({"adversarial_start_images": -1}, "adversarial_start_images"),
        ({"feature_weight": -1.0}, "feature_weight"),
        ({"feature_layer": -1}, "feature_layer"),
        ({"pixel_weight": -1.0}, "pixel_weight"),
        ({"pixel_weight": 0.0}, "needs a feature_weight"),
        ({"lecam_weight": -1.0}, "lecam_weight"),
        ({"r1_weight": 1.0, "discriminator": DiscriminatorConfig()}, "discriminator.norm to none"),
        ({"equilibrium_margin": 0.0, "gan_loss": "bce"}, "equilibrium_margin"),
        ({"equilibrium_margin": 0.3}, "gan_loss bce"),
        ({"decoder_sigma": "learned", "kld_weight": 1.0, "reconstruction": "sum"}, "decoder_sigma must be fixed"),
        ({"kld_weight": -1.0}, "kld_weight"),
        ({"feature_layer": 1}, "feature_layer has no effect with feature_weight 0"),
        ({"equilibrium": 0.5}, "equilibrium has no effect without an equilibrium_margin"),
        ({"adversarial_weight": 0.0, "adaptive_weight": True}, "adaptive_weight has no effect with adversarial_weight"),
    ],
)
def test_impossible_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        VAEGANConfig(**options)


def test_a_feature_layer_beyond_the_discriminator_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_layer must be below the discriminator's 2 stages, not 2"):
        make(feature_weight=1.0, feature_layer=2)


def test_the_reports_net_at_64_pixels() -> None:
    config = VAEGANConfig(network=ConvNetConfig(widths=[4, 8, 16, 32]), discriminator=DiscriminatorConfig())
    family = VAEGAN(config, ImageShape(3, 64, 64))
    assert len(list(family.networks["discriminator"].children())) == 2  # Four strided convolutions, and the fifth.
    assert sum(parameter.numel() for parameter in family.networks["discriminator"].parameters()) == 2_765_633


def test_both_kinds_of_collapse_are_warned_about() -> None:
    family = make()
    means = {"kl": 0.06, "d_accuracy": 0.7, "sample_variance": 0.001, "real_variance": 0.1}
    family.warnings(means)
    assert [text.partition(":")[0] for text in family.warnings(means)] == ["posterior collapse", "mode collapse"]
