"""The DC-GAN's networks and losses, each player's turn, and the detector of a failed training."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.families.dcgan import DCGANConfig
from facegen.losses import adversarial
from facegen.losses.collapse import CollapseDetector
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from facegen.optimization.optim import Updater
from facegen.options import CheckpointConfig, OptimConfig, TrainConfig
from facegen.pixels import to_float
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.loading.loader import evaluation_batches
from tiny_families import IMAGE, tiny_family
from training_runs import metrics_of

UNNORMALIZED = DiscriminatorConfig(8, 16, norm="none")


def batch_of(num: int = 8, images_seen: int = 0) -> TrainBatch:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return TrainBatch(images, {}, SlotRandom(0, images_seen, slice(0, num), num), images_seen)


def take_turn(family: Family, turn: str, batch: TrainBatch) -> TurnLosses:
    """A turn's losses, with the other networks frozen as the trainer does."""
    for name, network in family.networks.items():
        network.requires_grad_(name == turn)
    return family.losses(turn, dict(family.networks.items()), batch)


# Networks.


@pytest.mark.parametrize(
    ("size", "num_stages", "generator", "discriminator"),
    [(64, 4, 3_576_707, 2_765_633), (128, 5, 7_772_035, 6_960_961)],
)
def test_stages_and_parameters_at_the_size_of_the_paper(
    size: int, num_stages: int, generator: int, discriminator: int
) -> None:
    image = ImageShape(3, size, size)
    nets = Generator(image, 100, GeneratorConfig()), Discriminator(image, DiscriminatorConfig())
    assert [sum(parameter.numel() for parameter in net.parameters()) for net in nets] == [generator, discriminator]
    convs = [[module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)] for net in nets]
    assert [len(found) for found in convs] == [num_stages, num_stages + 1]
    assert nets[0].features[1:] == (4, 4)
    assert nets[0](torch.randn(2, 100)).shape == (2, *image)
    (judged,) = nets[1]([torch.randn(2, *image)])
    assert judged.logits.shape == (2,) and judged.features is None


def test_batch_norm_stands_where_the_paper_has_it() -> None:
    image = ImageShape(3, 64, 64)
    generator, discriminator = Generator(image, 8, GeneratorConfig(4)), Discriminator(image, DiscriminatorConfig(4))
    kinds = ["norm" if isinstance(layer, nn.BatchNorm2d) else type(layer).__name__ for layer in generator.stages]
    assert kinds == ["norm", "ReLU"] + 3 * ["ConvTranspose2d", "norm", "ReLU"] + ["ConvTranspose2d", "Tanh"]
    assert [len(list(stage)) for stage in discriminator.stages] == [2, 3, 3, 3]  # type: ignore[arg-type]


def test_initial_weights_are_those_of_the_paper() -> None:
    generator = Generator(ImageShape(3, 64, 64), 100, GeneratorConfig())
    assert generator.head.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert generator.stages[-2].weight.std().item() == pytest.approx(0.02, rel=0.1)  # type: ignore[union-attr]
    assert generator.stages[0].weight.mean().item() == pytest.approx(1.0, abs=0.01)  # type: ignore[union-attr]


def test_he_weights_keep_the_variance_of_features() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(ImageShape(3, 64, 64), DiscriminatorConfig(32, norm="none", init="he"))
    logits = discriminator([torch.randn(64, 3, 64, 64)])[0].logits
    assert 0.3 < logits.std().item() < 3
    narrow = Discriminator(ImageShape(3, 64, 64), DiscriminatorConfig(32, norm="none"))
    assert narrow([torch.randn(64, 3, 64, 64)])[0].logits.std().item() < 0.05


@pytest.mark.parametrize("image", [ImageShape(1, 16, 24), ImageShape(3, 48, 48), ImageShape(3, 8, 8)])
def test_other_shapes(image: ImageShape) -> None:
    images = Generator(image, 5, GeneratorConfig(4, 8))(torch.randn(3, 5))
    assert images.shape == (3, *image)
    assert Discriminator(image, DiscriminatorConfig(4, 8))([images])[0].logits.shape == (3,)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="7x8 are too small"):
        Generator(ImageShape(3, 7, 8), 5, GeneratorConfig())


def test_each_group_is_normalized_by_its_own_statistics() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(IMAGE, DiscriminatorConfig(8, 16)).train()
    real, fake, other = torch.randn(3, 6, *IMAGE).mul(torch.tensor([1.0, 0.1, 3.0]).view(3, 1, 1, 1, 1)).unbind()
    alone = discriminator([real])[0].logits
    torch.testing.assert_close(discriminator([real, fake])[0].logits, alone)
    torch.testing.assert_close(discriminator([other, real])[1].logits, alone)
    mixed = discriminator([torch.cat([real, fake])])[0].logits[:6]
    assert (mixed - alone).abs().max() > 0.1 * alone.std()  # A mixed batch would change the logits.


def test_features_are_those_of_the_stage_asked_for() -> None:
    discriminator = Discriminator(ImageShape(3, 64, 64), DiscriminatorConfig(4, 16))
    images = torch.randn(2, 3, 64, 64)
    for layer, shape in enumerate([(4, 32, 32), (8, 16, 16), (16, 8, 8), (16, 4, 4)]):
        features = discriminator([images], layer)[0].features
        assert features is not None and features.shape == (2, *shape)
    torch.testing.assert_close(discriminator([images], 0)[0].features, discriminator.stages[0](images))


def test_spectral_norm_makes_every_layer_a_contraction() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(IMAGE, DiscriminatorConfig(8, 16, norm="none", spectral_norm=True)).train()
    with torch.no_grad():
        for _ in range(30):
            discriminator([torch.randn(2, *IMAGE)] * 2)
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.01)


# Losses.


def test_cross_entropy_has_the_right_targets_and_stays_finite() -> None:
    logits = torch.tensor([-3.0, 0.5, 2.0])
    ones, zeros = torch.ones(3), torch.zeros(3)
    entropy = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(adversarial.real_loss(logits, "bce"), entropy(logits, ones))
    torch.testing.assert_close(adversarial.fake_loss(logits, "bce"), entropy(logits, zeros))
    torch.testing.assert_close(adversarial.generator_loss(logits, "bce"), entropy(logits, ones))
    sure = torch.tensor([1e4, -1e4])
    for loss in (adversarial.real_loss, adversarial.fake_loss, adversarial.generator_loss):
        assert loss(sure, "bce").item() == pytest.approx(5000)


def test_hinge() -> None:
    logits = torch.tensor([-3.0, 0.5, 2.0])
    assert adversarial.real_loss(logits, "hinge").item() == pytest.approx((4 + 0.5 + 0) / 3)
    assert adversarial.fake_loss(logits, "hinge").item() == pytest.approx((0 + 1.5 + 3) / 3)
    assert adversarial.generator_loss(logits, "hinge").item() == pytest.approx(0.5 / 3)


def test_relativistic_losses_compare_pairs() -> None:
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0])
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2
    assert adversarial.relativistic_loss(real, fake).item() == pytest.approx(expected)


def test_accuracy_weighs_groups_equally() -> None:
    real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 1.0])
    assert adversarial.accuracy(real, [fake]).item() == pytest.approx((0.75 + 0.5) / 2)
    assert adversarial.accuracy(real, [fake, -fake, fake - 5]).item() == pytest.approx((0.75 + 0.5 + 0.5 + 1) / 4)


def test_r1_is_half_the_squared_gradient_at_each_image() -> None:
    images = torch.randn(5, *IMAGE, requires_grad=True)
    weight = torch.full(IMAGE, 0.5, requires_grad=True)
    logits = 0.5 * (images.square() * weight).flatten(1).sum(1)  # Its gradient at an image x is weight * x.
    penalty = adversarial.gradient_penalty(images, logits)
    expected = 0.5 * (0.5 * images).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(penalty, expected)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, (0.5 * images.square()).mean(0).detach())


def test_r1_counts_real_images_only() -> None:
    family, batch = tiny_family("dcgan", discriminator=UNNORMALIZED, r1_weight=10.0), batch_of()
    terms = take_turn(family, "discriminator", batch)
    one = batch.images[:1].clone().requires_grad_()
    (judged,) = family.networks["discriminator"]([one])
    (gradient,) = torch.autograd.grad(judged.logits.sum(), one)
    alone = TrainBatch(batch.images[:1], {}, SlotRandom(0, 0, slice(0, 1), 8), 0)
    measured = take_turn(family, "discriminator", alone).scalars
    torch.testing.assert_close(measured["r1"], 0.5 * gradient.square().sum())
    assert "real_variance" not in measured  # One image has no variance.
    torch.testing.assert_close(terms.loss.detach(), terms.scalars["d_loss"] + 10 * terms.scalars["r1"])


def test_a_penalty_now_and_then_counts_as_often() -> None:
    options: dict[str, Any] = {"discriminator": UNNORMALIZED, "r1_weight": 2.0, "r2_weight": 3.0}
    always = take_turn(tiny_family("dcgan", **options), "discriminator", batch_of(images_seen=32))
    rare = tiny_family("dcgan", **options, penalty_every_steps=4)
    due = take_turn(rare, "discriminator", batch_of(images_seen=32)).scalars
    between = take_turn(rare, "discriminator", batch_of(images_seen=40))
    for name in ("r1", "r2"):
        assert always.scalars[name] > 0 and between.scalars[name] == 0
        torch.testing.assert_close(due[name], 4 * always.scalars[name])
    torch.testing.assert_close(between.loss.detach(), between.scalars["d_loss"])


def test_a_decoder_starts_as_a_gaussian_over_principal_components(tiny_config: Callable[..., TrainConfig]) -> None:
    network = ConvNetConfig([], output="linear", shortcut="linear")
    model = {"latent_size": 12, "architecture": "conv", "network": network, "generator": GeneratorConfig()}
    trainer = Trainer(tiny_config("dcgan", init="pca", model=model, max_steps=1))
    with torch.no_grad():
        samples = trainer.family.decode(torch.randn(4000, 12), {}).flatten(1)
    images = torch.cat([batch.images for batch in evaluation_batches(trainer.dataset, "train", 64)])
    pixels = to_float(torch.cat([images, images.flip(2)] if trainer.config.augment.flip else [images])).flatten(1)
    _, _, directions = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    expected, found = ((rows - rows.mean(0)) @ directions[:12].T for rows in (pixels, samples))
    torch.testing.assert_close(found.std(0), expected.std(0), rtol=0.1, atol=0)
    torch.testing.assert_close(samples.mean(0), pixels.mean(0), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("loss", "groups"),
    [("bce", {"discriminator": 2, "generator": 1}), ("relativistic", {"discriminator": 2, "generator": 2})],
)
def test_the_discriminator_sees_real_and_generated_images_changed_alike(loss: str, groups: dict[str, int]) -> None:
    weights = {"r1_weight": 1.0, "r2_weight": 1.0} if loss == "relativistic" else {}
    family = tiny_family("dcgan", loss=loss, discriminator=UNNORMALIZED, diff_augment=["cutout"], **weights)
    seen: list[Tensor] = []
    family.networks["discriminator"].register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
    for turn, num in groups.items():
        seen.clear()
        take_turn(family, turn, batch_of())
        assert len(seen) == num
        for images in seen:
            cut = (images == 0).all(1).flatten(1).float().mean(1)
            assert cut.min() >= 1 / 16 and cut.max() <= 0.25 and len(cut.unique()) > 1


def test_more_images_are_changed_while_the_discriminator_knows_the_real_ones() -> None:
    family = tiny_family("dcgan", diff_augment=["cutout"], augment_target=0.5, augment_steps=10)
    shares = []
    for sign in [1.0] * 3 + [0.0] * 5:
        family.observe({"d_sign_real": sign})
        shares.append(round(family.get_buffer("augment_share").item(), 3))
    assert shares == [0.1, 0.2, 0.3, 0.2, 0.1, 0, 0, 0]
    seen: list[Tensor] = []
    family.networks["discriminator"].register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
    terms = take_turn(family, "discriminator", batch_of()).scalars
    assert torch.equal(seen[0], batch_of().images)  # With a share of 0.
    assert terms["d_sign_real"].abs() <= 1


def test_variance_is_unbiased_and_a_mean_over_parts() -> None:
    images = 0.3 * torch.randn(4000, 1, 2, 2) + torch.tensor([[-0.5, 0.0], [0.2, 0.7]])
    assert adversarial.batch_variance(images).item() == pytest.approx(0.09, rel=0.1)
    parts = torch.stack([adversarial.batch_variance(part) for part in images.split(10)])
    torch.testing.assert_close(parts.mean(), adversarial.batch_variance(images))
    assert adversarial.batch_variance(images[:1].expand(7, -1, -1, -1)) == 0


# Turns.


@pytest.mark.parametrize("turn", ["discriminator", "generator"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "hinge", "diff_augment": ["color", "translation", "cutout"]},
        {"discriminator": UNNORMALIZED, "r1_weight": 1.0},
        {"discriminator": UNNORMALIZED, "r1_weight": 1.0, "r2_weight": 1.0, "loss": "relativistic"},
        {"architecture": "conv", "generator": GeneratorConfig(), "network": ConvNetConfig([8, 16])},
    ],
    ids=["bce", "augmented hinge", "r1", "relativistic", "decoder"],
)
def test_only_the_player_whose_turn_it_is_gets_a_gradient(turn: str, options: dict[str, Any]) -> None:
    family = tiny_family("dcgan", **options).train()
    take_turn(family, turn, batch_of()).loss.backward()
    for name, parameter in family.named_parameters():
        assert (parameter.grad is not None) == (turn in name), name


def test_the_generator_lowers_its_loss_against_a_frozen_discriminator() -> None:
    # Batch norm in the discriminator would cancel whatever moves all logits of a batch.
    family = tiny_family("dcgan", discriminator=UNNORMALIZED).train()
    with torch.no_grad():
        for parameter in family.networks["discriminator"].parameters():
            parameter.mul_(10)  # The initial weights give logits near 0 for any image.
    updater = Updater(family.networks["generator"], OptimConfig(), torch.device("cpu"), False)
    values = []
    for step in range(25):
        result = take_turn(family, "generator", batch_of(images_seen=8 * step))
        updater.backward(result.loss)
        updater.step(0.01)
        values.append(result.scalars["g_loss"].item())
    assert values[-1] < 0.2 * values[0]


def test_each_turn_draws_its_own_noise() -> None:
    family = tiny_family("dcgan")
    seen: list[Tensor] = []
    family.networks["generator"].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for turn in family.turns:
        take_turn(family, turn, batch_of())
    assert seen[0].shape == seen[1].shape == (8, 6)
    assert not torch.equal(seen[0], seen[1])


def test_fp16_overflow_of_one_player_does_not_touch_the_other() -> None:
    family = tiny_family("dcgan").train()
    updaters = {
        name: Updater(network, OptimConfig(), torch.device("cpu"), True) for name, network in family.networks.items()
    }
    before = {name: parameter.clone() for name, parameter in family.named_parameters()}
    for turn in family.turns:
        loss = take_turn(family, turn, batch_of()).loss
        updaters[turn].backward(loss * (1e38 if turn == "discriminator" else 1.0))
        updaters[turn].clip()
        updaters[turn].step(0.01)
    for name, parameter in family.named_parameters():
        assert torch.equal(parameter, before[name]) == ("discriminator" in name), name
    scales = {name: updater.scaler.get_scale() for name, updater in updaters.items()}
    assert scales["discriminator"] == 0.5 * scales["generator"]


OWN_RATE = OptimConfig(lr=0.001, lr_of={"discriminator": 0.004}, warmup_images=32)


def test_players_may_learn_at_different_rates(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config("dcgan", optim=OWN_RATE, max_steps=1)
    trainer = Trainer(config)
    trainer.fit()
    rates = {name: updater.optimizer.param_groups[0]["lr"] for name, updater in trainer.state.updaters.items()}
    assert rates == pytest.approx({"discriminator": 0.004 / 32, "generator": 0.001 / 32})
    del trainer
    gc.collect()
    (line,) = [line for line in metrics_of(config) if "train/lr" in line]
    assert line["train/lr_discriminator"] == pytest.approx(4 * line["train/lr"])
    with pytest.raises(UserError, match=r"optim.lr_of.discriminator \(was 0.004, now None\)"):
        Trainer(replace(config, optim=replace(OWN_RATE, lr_of={})))


def test_a_rate_for_a_network_that_is_not_there(tiny_config: Callable[..., TrainConfig]) -> None:
    optim = OptimConfig(lr_of={"generator": 0.1, "critic": 0.1})
    with pytest.raises(UserError, match="^optim.lr_of names critic; the networks of this dcgan are discriminator, gen"):
        Trainer(tiny_config("dcgan", optim=optim))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"r1_weight": -1.0}, "r1_weight must not be negative"),
        ({"r1_weight": 1.0}, "discriminator.norm to none"),
        ({"latent_size": 0}, "latent_size"),
        ({"r2_weight": 1.0}, "r2_weight penalizes"),
        ({"loss": "relativistic"}, "r1_weight and r2_weight"),
        ({"penalty_every_steps": 4}, "penalty_every_steps has no effect"),
        ({"augment_target": 0.6}, "needs diff_augment"),
        ({"augment_steps": 5}, "augment_steps has no effect"),
        ({"architecture": "conv", "generator": GeneratorConfig(8)}, "generator has no effect"),
        ({"network": ConvNetConfig([8])}, "network has no effect"),
    ],
)
def test_impossible_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DCGANConfig(**options)


@pytest.mark.parametrize("section", [GeneratorConfig, DiscriminatorConfig])
@pytest.mark.parametrize("widths", [(0, 8), (16, 8)])
def test_impossible_widths(section: type, widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="width must be at least 1 and at most max_width"):
        section(*widths)


# The detector.

HEALTHY = {"d_accuracy": 0.7, "sample_variance": 0.09, "real_variance": 0.11}


def kinds_of(*epochs: dict[str, float]) -> list[list[str]]:
    detector = CollapseDetector()
    return [[text.partition(":")[0] for text in detector.warnings(HEALTHY | means)] for means in epochs]


def test_a_healthy_game_gets_no_warning() -> None:
    gray, more = {"sample_variance": 0.001, "d_accuracy": 0.999}, {"sample_variance": 0.01, "d_accuracy": 0.97}
    assert kinds_of(gray, more, {}, {}) == [[], [], [], []]


@pytest.mark.parametrize(
    ("means", "kind"),
    [
        ({"d_accuracy": 0.999}, "discriminator won"),
        ({"d_accuracy": 0.001}, "discriminator lost"),
        ({"sample_variance": 0.02}, "mode collapse"),
    ],
)
def test_each_failure_is_warned_about(means: dict[str, float], kind: str) -> None:
    assert kinds_of({}, means, means, means, {}) == [[], [kind] if "variance" in str(means) else [], [kind], [kind], []]


def test_batches_of_one_image_have_no_variance() -> None:
    detector = CollapseDetector()
    assert [detector.warnings({"d_accuracy": 0.7}) for _ in range(2)] == [[], []]


def warned(config: TrainConfig) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "warning" in line]


def train(config: TrainConfig, on_step: Any = None) -> None:
    try:
        Trainer(config).fit(on_step)
    finally:
        gc.collect()  # Releases the lock, as the end of the process would.


def test_collapse_is_warned_about_once_an_epoch_even_after_a_crash(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = Generator.forward
    monkeypatch.setattr(Generator, "forward", lambda self, latents: forward(self, latents[:1].expand_as(latents)))
    options = {"max_steps": 49, "checkpoint": CheckpointConfig(every_images=400)}
    config = tiny_config("dcgan", **options)

    def crash(trainer: Trainer, *_: Any) -> None:
        if trainer.step == 37:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, crash)
    assert [line["images_seen"] / 192 for line in warned(config)] == [2, 3]
    train(config)  # Resumes at image 400, in the third epoch, whose end is only remembered.
    assert [line["images_seen"] / 192 for line in warned(config)] == [2, 4]
    texts = [line["warning"] for line in warned(config)]
    events = EventAccumulator(config.run, size_guidance={"tensors": 0}).Reload()
    assert [event.step / 192 for event in events.Tensors("warnings/text_summary")] == [2, 4]
    assert all("mode collapse: over the last epoch the variance" in text for text in texts)
    assert f"warning: {texts[-1]}" in capsys.readouterr().out
