"""The moving average counts its half-life in images, whatever the batch size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facegen.families import FAMILIES, Family, build
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.optimization.ema import EMA


def make_family(norm: str = "batch") -> Family:
    config = FAMILIES["vae"].config_class(latent_size=4, network=ConvNetConfig(widths=[4], norm=norm))  # type: ignore[arg-type]
    return build("vae", config, ImageShape(1, 16, 16))


def set_all(module: nn.Module, value: float) -> None:
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)


@pytest.mark.parametrize("batch_size", [1, 10, 50, 100, 400])
def test_after_one_half_life_the_old_weight_counts_one_half(batch_size: int) -> None:
    family = make_family()
    set_all(family, 1.0)
    ema = EMA(family, half_life_images=400)
    set_all(family, 0.0)
    for images_seen in range(batch_size, 1201, batch_size):
        ema.update(images_seen, batch_size)
        if images_seen in (400, 1200):
            for average in ema.module.parameters():
                torch.testing.assert_close(average, torch.full_like(average, 0.5 ** (images_seen / 400)))


def test_small_batches_move_it_every_few_steps_wherever_the_run_was_resumed() -> None:
    family = make_family()
    set_all(family, 1.0)
    ema = EMA(family, half_life_images=400)
    set_all(family, 0.0)
    values = []
    for images_seen in range(1000, 1210, 10):
        ema.update(images_seen, 10)
        values.append(round(next(ema.module.parameters()).flatten()[0].item(), 6))
    # 400 images are 40 steps, for which 16 moves suffice: one every second step.
    moves = [round(0.5 ** (20 * count / 400), 6) for count in range(1, 12)]
    assert values == [value for move in moves for value in (move, move)][:21]


def test_it_starts_as_a_separate_copy_of_the_weights() -> None:
    family = make_family()
    ema = EMA(family, 100)
    for name, parameter in family.named_parameters():
        assert torch.equal(parameter, ema.module.get_parameter(name))
    set_all(family, 7.0)
    assert not any((average == 7.0).any() for average in ema.module.parameters())


def test_batch_norm_statistics_are_averaged_and_counters_copied() -> None:
    family = make_family()
    ema = EMA(family, half_life_images=100)
    before = {name: buffer.clone() for name, buffer in ema.module.named_buffers()}
    family.networks["autoencoder"](torch.rand(4, 1, 16, 16), torch.zeros(4, 4))  # Train mode: moves the statistics.
    ema.update(100, 100)
    for name, buffer in family.named_buffers():
        average = ema.module.get_buffer(name)
        if buffer.is_floating_point():
            torch.testing.assert_close(average, (before[name] + buffer) / 2)
            assert not torch.equal(average, buffer), name
        else:
            assert name.endswith("num_batches_tracked") and torch.equal(average, buffer)


def test_it_is_in_eval_mode_and_never_learns() -> None:
    ema = EMA(make_family(), 100)
    assert not any(module.training for module in ema.module.modules())
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_a_ramp_forgets_the_first_weights_soon() -> None:
    family = make_family()
    set_all(family, 1.0)
    bounded, unbounded = EMA(family, 100_000, ramp_up=0.09), EMA(family, 100_000)
    set_all(family, 0.0)
    for images_seen in range(50, 2001, 50):
        for ema in (bounded, unbounded):
            ema.update(images_seen, 50)
    assert max(value.abs().max().item() for value in bounded.module.parameters()) < 1e-6
    assert max(value.abs().max().item() for value in unbounded.module.parameters()) > 0.98


def test_a_ramp_ends_at_the_half_life() -> None:
    family = make_family()
    ema = EMA(family, half_life_images=400, ramp_up=0.5)
    for images_seen in range(50, 4001, 50):
        ema.update(images_seen, 50)
    ema.restart()
    set_all(ema.module, 1.0)
    set_all(family, 0.0)
    for images_seen in range(4050, 4401, 50):
        ema.update(images_seen, 50)
    for average in ema.module.parameters():
        torch.testing.assert_close(average, torch.full_like(average, 0.5))


def test_weights_that_do_not_learn_are_followed_at_the_start_alone() -> None:
    family = make_family()
    frozen = "networks.autoencoder.encoder.stages.0.weight"
    family.get_parameter(frozen).requires_grad_(False)
    set_all(family, 1.0)
    ema = EMA(family, half_life_images=100)
    set_all(family, 2.0)
    ema.restart()
    before = ema.module.get_parameter(frozen)._version
    set_all(family, 4.0)
    ema.update(100, 100)
    for name, average in ema.module.named_parameters():
        torch.testing.assert_close(average, torch.full_like(average, 2.0 if name == frozen else 3.0))
    assert ema.module.get_parameter(frozen)._version == before
