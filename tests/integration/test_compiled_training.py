"""Compiled networks train as eager ones do and leave the same files.

Most tests compile with ``aot_eager``: graphs, guards and backward passes as inductor's, without its C++ compiler.
"""

from __future__ import annotations

import functools
import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounterWithBackend

from facegen.families import FAMILIES
from facegen.networks.gan import DiscriminatorConfig
from facegen.options import EMAConfig, MonitorConfig, PerformanceConfig, TrainConfig
from facegen.runs.checkpoint import newest_complete
from facegen.training.trainer import Trainer
from shards.base.errors import UserError

MakeConfig = Callable[..., TrainConfig]
COMPILED = PerformanceConfig(compile=True)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Compiles with ``aot_eager`` and counts the graphs."""
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend=counter))
    return counter


def train(config: TrainConfig, on_step: Any = None) -> dict[str, torch.Tensor]:
    """Trains, and returns what the newest checkpoint and snapshot hold."""
    assert Trainer(config).fit(on_step) == 0
    gc.collect()  # Frees the lock, as the end of a process would.
    held = {}
    for folder in ("checkpoints", "snapshots"):
        newest = newest_complete(Path(config.run) / folder)
        assert newest is not None
        for path in newest.glob("*.safetensors"):
            held |= {f"{folder}/{path.name}/{name}": tensor for name, tensor in load_file(path).items()}
    return held


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_run_is_an_eager_one(
    family: str, tiny_config: MakeConfig, tmp_path: Path, graphs: CompileCounterWithBackend
) -> None:
    options = {"ema": EMAConfig(50), "gradient_accumulation_steps": 2, "max_steps": 3}
    eager = train(tiny_config(family, run=str(tmp_path / "eager"), **options))
    assert graphs.frame_count == 0
    compiled = train(tiny_config(family, performance=COMPILED, **options))
    assert graphs.frame_count > len(FAMILIES[family].family_class.turns)  # The probe is one more.
    assert_close(eager, compiled)


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("dcgan", {"r1_weight": 1.0, "discriminator": DiscriminatorConfig(8, 16, norm="none")}),
        ("vae_gan", {"adaptive_weight": True}),
        ("vae_gan", {"r1_weight": 1.0, "discriminator": DiscriminatorConfig(8, 16, norm="none")}),
    ],
)
def test_what_is_differentiated_twice_is_left_as_it_is(
    family: str, model: dict[str, Any], tiny_config: MakeConfig, tmp_path: Path, graphs: CompileCounterWithBackend
) -> None:
    options = {"model": model, "max_steps": 3}
    eager = train(tiny_config(family, run=str(tmp_path / "eager"), **options))
    assert_close(eager, train(tiny_config(family, performance=COMPILED, **options)))


@pytest.mark.parametrize("family", ["cvae", "dcgan", "vae_gan"])
def test_turns_do_not_compile_anew_every_step(
    family: str, tiny_config: MakeConfig, graphs: CompileCounterWithBackend
) -> None:
    # Each turn switches requires_grad and batch norm's averages of every network, on which the graphs depend.
    counts = []
    monitor = MonitorConfig(log_every_images=32, validate_every_images=48, num_validation_images=20)
    config = tiny_config(family, performance=COMPILED, max_steps=8, monitor=monitor)
    train(config, lambda *_: counts.append(graphs.frame_count))
    assert counts[1] > len(FAMILIES[family].family_class.turns)
    assert counts[1:] == [counts[1]] * 7  # Also through evaluation, whose last batch holds four images.


def test_frozen_networks_are_compiled_as_well(tiny_config: MakeConfig, graphs: CompileCounterWithBackend) -> None:
    train(tiny_config("dfc_vae", performance=COMPILED, max_steps=2))
    assert graphs.frame_count == 1 + 1 + 2  # Probe, network, feature net without and with a gradient.


def test_compiled_runs_and_others_continue_each_other(
    tiny_config: MakeConfig, tmp_path: Path, graphs: CompileCounterWithBackend
) -> None:
    whole = train(tiny_config(max_steps=6, run=str(tmp_path / "whole")))
    for performance, max_steps in ((COMPILED, 2), (PerformanceConfig(), 4), (COMPILED, 6)):
        mixed = train(tiny_config(max_steps=max_steps, performance=performance))
    assert graphs.frame_count > 0
    assert_close(whole, mixed)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which torch.compile needs on a CPU")
@pytest.mark.parametrize("family", ["vae", "dcgan"])
def test_inductor_trains_as_eager_does(family: str, tiny_config: MakeConfig, tmp_path: Path) -> None:
    torch.compiler.reset()
    losses: dict[str, list[dict[str, float]]] = {"eager": [], "compiled": []}
    for name, steps in losses.items():

        def on_step(trainer: Any, batch: Any, terms: dict[str, torch.Tensor], steps: Any = steps) -> None:
            steps.append({term: value.mean().item() for term, value in terms.items()})

        performance = PerformanceConfig(compile=name == "compiled")
        train(tiny_config(family, run=str(tmp_path / name), performance=performance), on_step)
    # Not the weights: of a bias before batch norm the gradient is rounding, which Adam makes a step of.
    for eager, compiled in zip(losses["eager"], losses["compiled"], strict=True):
        assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-5)


def test_a_machine_that_cannot_compile_is_told_so_in_a_sentence(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> None:
        raise RuntimeError("no compiler\nand a page of traces")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    with pytest.raises(UserError, match=r"torch.compile does not work on this machine .*no compiler\); leave out"):
        Trainer(tiny_config(performance=COMPILED))


def test_accelerate_s_own_compiling_is_refused(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.raises(UserError, match="dynamo backend.*--performance.compile true"):
            Trainer(tiny_config())
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
