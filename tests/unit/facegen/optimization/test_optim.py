"""Learning rate schedule, clipping and the optimizer's state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from facegen.optimization.optim import Updater
from facegen.options import OptimConfig

CPU = torch.device("cpu")


def make(network: nn.Module, **options: Any) -> Updater:
    return Updater(network, OptimConfig(**options), CPU, use_fp16=False)


def test_warmup_rises_linearly_and_then_stays() -> None:
    config = OptimConfig(lr=0.5, warmup_images=100)
    rates = [config.lr_at(images_seen, 1000) for images_seen in (0, 49, 99, 100, 999)]
    assert rates == pytest.approx([0.005, 0.25, 0.5, 0.5, 0.5])


def test_no_warmup() -> None:
    assert OptimConfig(lr=0.5, warmup_images=0).lr_at(0, 1000) == 0.5


def test_the_cosine_falls_from_lr_to_its_final_fraction() -> None:
    config = OptimConfig(lr=0.5, warmup_images=100, schedule="cosine", final_lr_fraction=0.1)
    assert config.lr_at(50, 1100) == pytest.approx(0.5 * 51 / 100)
    assert config.lr_at(100, 1100) == pytest.approx(0.5)
    assert config.lr_at(600, 1100) == pytest.approx(0.5 * (0.1 + 0.9 * 0.5))
    quarter = 0.5 * (1 + math.cos(math.pi / 4))
    assert config.lr_at(350, 1100) == pytest.approx(0.5 * (0.1 + 0.9 * quarter))
    assert config.lr_at(1100, 1100) == pytest.approx(0.05)
    assert config.lr_at(5000, 1100) == pytest.approx(0.05)


def test_cosine_of_a_run_that_ends_within_its_warmup() -> None:
    config = OptimConfig(lr=0.5, warmup_images=100, schedule="cosine")
    assert config.lr_at(30, 40) == pytest.approx(0.5 * 31 / 100)


def test_a_network_may_have_a_rate_of_its_own_under_the_same_schedule() -> None:
    config = OptimConfig(lr=0.5, lr_of={"discriminator": 0.1}, warmup_images=100, schedule="step", step_images=1000)
    for images_seen in (0, 99, 100, 2500):
        own = config.lr_at(images_seen, 5000, "discriminator")
        assert own == pytest.approx(0.2 * config.lr_at(images_seen, 5000, "generator"))
        assert config.lr_at(images_seen, 5000, "generator") == config.lr_at(images_seen, 5000)


def test_clipping_returns_the_norm_before_and_leaves_the_limit() -> None:
    network = nn.Linear(2, 1, bias=False)
    updater = make(network, max_grad_norm=1.0)
    updater.backward((network.weight * torch.tensor([[30.0, 40.0]])).sum())
    assert updater.clip().item() == pytest.approx(50)
    torch.testing.assert_close(network.weight.grad, torch.tensor([[0.6, 0.8]]))


def test_without_a_limit_the_gradient_is_only_measured() -> None:
    network = nn.Linear(2, 1, bias=False)
    updater = make(network)
    updater.backward((network.weight * torch.tensor([[30.0, 40.0]])).sum())
    assert updater.clip().item() == pytest.approx(50)
    assert torch.equal(network.weight.grad, torch.tensor([[30.0, 40.0]]))  # type: ignore[arg-type]


def test_a_step_uses_the_given_rate_and_clears_the_gradient() -> None:
    network = nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    updater = make(network, lr=1.0)
    updater.backward(network.weight.sum())
    updater.step(0.25)
    torch.testing.assert_close(before - network.weight, torch.full((1, 2), 0.25))  # Adam's first step is lr * sign.
    assert network.weight.grad is None


@pytest.mark.parametrize(("name", "shrinks"), [("adam", False), ("adamw", True)])
def test_adamw_decays_weights_apart_from_the_gradient(name: str, shrinks: bool) -> None:
    network = nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    updater = make(network, name=name, weight_decay=0.1)
    updater.backward(0 * network.weight.sum())
    updater.step(0.5)
    # AdamW multiplies by 1 - lr * decay; Adam feeds the decay to its moments, whose first step has size lr.
    assert torch.allclose(network.weight, before * (1 - 0.05)) == shrinks


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    assert len(make(network).parameters) == 2


def test_a_restored_optimizer_continues_bitwise() -> None:
    def steps(network: nn.Module, updater: Updater, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            updater.backward(network(torch.randn(8, 3, generator=generator)).square().sum())
            updater.step(0.01)

    torch.manual_seed(0)
    whole = nn.Linear(3, 2)
    first_half = nn.Linear(3, 2)
    first_half.load_state_dict(whole.state_dict())
    steps(whole, make(whole), 0, 6)

    updater = make(first_half)
    steps(first_half, updater, 0, 3)
    second_half = nn.Linear(3, 2)
    second_half.load_state_dict(first_half.state_dict())
    resumed = make(second_half)
    resumed.load_state_dict(updater.state_dict())
    steps(second_half, resumed, 3, 6)
    assert torch.equal(second_half.weight, whole.weight)


def test_a_state_without_a_loss_scaler_loads_into_a_run_with_one() -> None:
    # A run may resume in another precision; the scaler then starts anew.
    network = nn.Linear(2, 1)
    state = make(network).state_dict()
    scaled = Updater(network, OptimConfig(), CPU, use_fp16=True)
    scaled.load_state_dict(state)
    assert scaled.scaler.get_scale() == torch.amp.GradScaler("cpu").get_scale()


def test_fp16_skips_a_step_whose_gradient_overflowed() -> None:
    network = nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    updater = Updater(network, OptimConfig(), CPU, use_fp16=True)
    scale = updater.scaler.get_scale()
    updater.backward(network.weight.sum() * math.inf)
    assert not updater.clip().isfinite()
    updater.step(0.1)
    assert torch.equal(network.weight, before)
    assert updater.scaler.get_scale() < scale


def test_fp16_scaling_does_not_change_the_gradient() -> None:
    network = nn.Linear(2, 1, bias=False)
    updater = Updater(network, OptimConfig(), CPU, use_fp16=True)
    updater.backward((network.weight * torch.tensor([[3.0, 4.0]])).sum())
    assert updater.clip().item() == pytest.approx(5)


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"lr": -1.0}, {"lr": math.nan}, {"betas": (0.9, 1.0)}, {"max_grad_norm": 0.0}, {"weight_decay": -1.0}]
    + [{"warmup_images": -1}, {"final_lr_fraction": -0.1}, {"lr_of": {"discriminator": 0.0}}],
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"optim.{next(iter(options))}"):
        OptimConfig(**options)


def test_a_step_schedule_falls_by_a_factor_every_so_many_images() -> None:
    config = OptimConfig(lr=0.5, warmup_images=100, schedule="step", step_images=1000, step_factor=0.9)
    assert config.lr_at(50, 5000) == pytest.approx(0.5 * 51 / 100)
    assert [config.lr_at(images, 5000) / 0.5 for images in (100, 999, 1000, 2500)] == pytest.approx([1, 1, 0.9, 0.81])


@pytest.mark.parametrize("options", [{"step_images": 0}, {"step_factor": 0.0}, {"step_factor": 1.5}])
def test_impossible_steps(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"step_images must be at least 1 and optim.step_factor in \(0, 1\]"):
        OptimConfig(**options)
