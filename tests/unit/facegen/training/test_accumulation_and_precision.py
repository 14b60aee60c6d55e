"""Gradient accumulation, mixed precision, and the warning of a collapsed posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from facegen.families import FAMILIES
from facegen.networks.conv_config import ConvNetConfig
from facegen.options import MonitorConfig, OptimConfig
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import RICH, MakeConfig, metrics_of, train


def test_a_collapsed_posterior_is_announced_with_its_number(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"max_epochs": 3, "max_steps": None, "optim": OptimConfig(lr=0.01, warmup_images=0)}
    train(tiny_config(model={"kld_weight": 500.0, "reconstruction": "sum"}, **options))
    lines = [line for line in capsys.readouterr().out.splitlines() if "posterior collapse" in line]
    assert lines
    assert "mean KL over the last epoch is 0.0" in lines[-1]
    train(tiny_config(model={"kld_weight": 0.0}, run=f"{tiny_config().run}_free", **options))
    assert "posterior collapse" not in capsys.readouterr().out


@pytest.mark.parametrize("family", ["ae", "vae"])
def test_accumulated_gradients_are_those_of_one_big_batch(family: str, tiny_config: MakeConfig, tmp_path: Path) -> None:
    options = {"max_steps": 3, "model": {"network": ConvNetConfig(widths=[4, 8], norm="none")}}
    monitor = MonitorConfig(log_every_images=16)
    at_once, in_parts = (
        tiny_config(
            family, run=str(tmp_path / str(steps)), gradient_accumulation_steps=steps, monitor=monitor, **options
        )
        for steps in (1, 4)
    )
    first, second = train(at_once), train(in_parts)
    for name, tensor in first.tensors.items():
        if name.startswith("weights."):
            torch.testing.assert_close(second.tensors[name], tensor, rtol=0, atol=1e-6)
    for line, other in zip(metrics_of(at_once), metrics_of(in_parts), strict=True):
        trained = {name: value for name, value in line.items() if name.startswith("train/")}
        assert trained == pytest.approx({name: other[name] for name in trained}, rel=1e-3)


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the mixed precision as ``accelerate launch`` does."""

    def choose(name: str) -> None:
        AcceleratorState._reset_state(True)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", name)

    yield choose
    AcceleratorState._reset_state(True)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(
    tiny_config: MakeConfig, precision: Callable[[str], None], tmp_path: Path
) -> None:
    exact = train(tiny_config(run=str(tmp_path / "exact"), **RICH))
    precision("bf16")
    rounded = train(tiny_config(**RICH))
    floats = {name: tensor for name, tensor in rounded.tensors.items() if tensor.is_floating_point()}
    assert {tensor.dtype for tensor in floats.values()} == {torch.float32}
    assert any(not torch.equal(tensor, exact.tensors[name]) for name, tensor in floats.items())
    for name in exact.tensors:
        if name.startswith("ema.") and name.endswith("weight"):
            torch.testing.assert_close(rounded.tensors[name], exact.tensors[name], rtol=0, atol=5e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_in_bf16(family: str, tiny_config: MakeConfig, precision: Callable[[str], None]) -> None:
    precision("bf16")
    config = tiny_config(family, max_steps=2, monitor=MonitorConfig(log_every_images=16, num_validation_images=20))
    outcome = train(config)
    assert all(tensor.dtype != torch.bfloat16 and tensor.isfinite().all() for tensor in outcome.tensors.values())
    assert all(math.isfinite(value) for line in metrics_of(config) for value in line.values())


def test_fp16_is_refused_where_the_device_lacks_it(tiny_config: MakeConfig, precision: Callable[[str], None]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can do fp16")
    precision("fp16")
    with pytest.raises(UserError, match="fp16"):
        Trainer(tiny_config())
