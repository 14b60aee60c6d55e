"""Trains small runs in this process, and reads what they leave."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from facegen.networks.conv_config import ConvNetConfig
from facegen.options import EMAConfig, OptimConfig, TrainConfig
from facegen.training.trainer import OnStep, Trainer

MakeConfig = Callable[..., TrainConfig]

DROPOUT = {"network": ConvNetConfig(widths=[4, 8], dropout=0.2)}
# All that could differ after resuming: moving average, warm-up, batch norm and dropout.
RICH: dict[str, Any] = {
    "model": DROPOUT,
    "ema": EMAConfig(half_life_images=50),
    "optim": OptimConfig(lr=1e-3, warmup_images=32, max_grad_norm=1.0),
}


class Crash(Exception):
    """Stands for a process that dies."""


@dataclass
class Outcome:
    exit_code: int
    images_seen: int
    tensors: dict[str, Tensor]
    """Weights, moving average and optimizer moments, by name."""


def train(config: TrainConfig, on_step: OnStep | None = None) -> Outcome:
    """Trains as a process of its own would."""
    trainer = Trainer(config)
    try:
        exit_code = trainer.fit(on_step)
        tensors = {f"weights.{name}": tensor for name, tensor in trainer.family.state_dict().items()}
        if trainer.state.ema:
            tensors |= {f"ema.{name}": tensor for name, tensor in trainer.state.ema.module.state_dict().items()}
        for turn, updater in trainer.state.updaters.items():
            for number, state in updater.optimizer.state_dict()["state"].items():
                tensors |= {f"{turn}.{number}.{name}": tensor for name, tensor in state.items()}
        return Outcome(exit_code, trainer.images_seen, {name: tensor.clone() for name, tensor in tensors.items()})
    finally:
        del trainer
        gc.collect()  # Frees the lock, as the end of a process would.


def assert_equal(first: Outcome, second: Outcome) -> None:
    assert first.images_seen == second.images_seen
    assert set(first.tensors) == set(second.tensors)
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def crash_after(step: int) -> OnStep:
    def on_step(trainer: Trainer, *_: Any) -> None:
        if trainer.step == step:
            raise Crash

    return on_step


def lines_of(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines()]


def metrics_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The lines of scalars; those of vectors stand apart."""
    return [line for line in lines_of(config) if "train/kl_per_dim" not in line]


def assert_scalars_equal_events(config: TrainConfig) -> None:
    """Every number of ``metrics.jsonl`` is in TensorBoard's view of the run, and no other."""
    events = EventAccumulator(config.run, size_guidance={"scalars": 0}).Reload()
    drawn = {(name, event.step): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    written = {
        (name, line["images_seen"]): value
        for line in metrics_of(config)
        for name, value in line.items()
        if name != "images_seen"
    }
    assert set(drawn) == set(written)
    for key, value in written.items():
        assert drawn[key] == pytest.approx(value, rel=1e-5), key


def checkpoints_of(config: TrainConfig) -> list[str]:
    return sorted(path.name for path in (Path(config.run) / "checkpoints").iterdir())
