"""Minimal training loops to compare the trainer with.

    accelerate launch tests/benchmarks/bare_loop.py FAMILY --data DATA --run RUN --max_steps 100 ...

The arguments are those of ``facegen/train.py``. This runs the bare loop, in one process or under DDP as the trainer
does, and writes its speed in each of five windows to the run's metrics.jsonl.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from facegen.config import parse_args
from facegen.families.base import TrainBatch
from facegen.optimization.ema import EMA
from facegen.optimization.optim import Updater
from facegen.processes.group import run_process
from facegen.training.batches import micro_batches
from facegen.training.trainer import Trainer
from shards.command_line.cli import run
from shards.loading.batch import Batch

_WINDOWS = 5


class BareLoop:
    """Forward, backward and optimizer on one batch: the least that training this network costs."""

    def __init__(self, trainer: Trainer, batch: Batch) -> None:
        """Copies the trainer's networks, so that all loops start from the same weights."""
        self.config = trainer.config
        self.images_seen = trainer.images_seen
        self.device = trainer.accelerator.device
        self.batch = batch
        self.family = copy.deepcopy(trainer.family).train()
        # Turns switch networks off, which the copy must not remember; what is frozen stays frozen.
        trained = {id(parameter) for updater in trainer.state.updaters.values() for parameter in updater.parameters}
        for own, original in zip(self.family.parameters(), trainer.family.parameters(), strict=True):
            own.requires_grad = id(original) in trained
        self.networks: dict[str, Any] = dict(self.family.networks.items())
        # So small that training on one batch for long does not lead to denormal numbers, which are slow.
        optim = dataclasses.replace(self.config.optim, lr=1e-6)
        self.updaters = {
            name: Updater(network, optim, self.device, use_fp16=False) for name, network in self.networks.items()
        }
        self.wrapped = {name: trainer.accelerator.prepare_model(network) for name, network in self.networks.items()}
        self.part = self._augmented()

    def step(self) -> None:
        """One step of every network."""
        for turn in self.family.turns:
            for name, updater in self.updaters.items() if len(self.updaters) > 1 else ():
                updater.require_gradients(name == turn)
            networks = {**self.networks, turn: self.wrapped[turn]}
            self.family.losses(turn, networks, self.part).loss.backward()
            self.before_update(turn)
            self.updaters[turn].optimizer.step()
            self.updaters[turn].optimizer.zero_grad(set_to_none=True)

    def before_update(self, turn: str) -> None:
        """Called between the backward pass and the optimizer; the bare loop does nothing."""

    def _augmented(self) -> TrainBatch:
        [part] = micro_batches(self.batch, self.config, self.images_seen, self.device)
        return part


class PlainLoop(BareLoop):
    """The bare loop plus the preset's augmentation, gradient norm and moving average."""

    def __init__(self, trainer: Trainer, batch: Batch) -> None:
        """Starts a moving average as well."""
        super().__init__(trainer, batch)
        half_life_images = self.config.ema.half_life_images
        self.ema = EMA(self.family, half_life_images) if half_life_images else None

    def step(self) -> None:
        """One step of every network, on the batch with new augmentation."""
        self.part = self._augmented()
        super().step()
        self.images_seen += self.config.global_batch_size
        if self.ema:
            self.ema.update(self.images_seen, self.config.global_batch_size)

    def before_update(self, turn: str) -> None:
        """Measures the gradient's norm, and clips it if the preset does."""
        self.updaters[turn].clip()


def main() -> None:
    """Trains, and writes the speed of each window."""
    config = parse_args(sys.argv[1:])
    trainer = Trainer(config)
    loop = BareLoop(trainer, next(iter(trainer.loader)))
    num_steps = (config.max_steps or 100) // _WINDOWS
    lines = []
    for _ in range(_WINDOWS):
        started_sec = time.perf_counter()
        for _ in range(num_steps):
            loop.step()
        speed = num_steps * config.global_batch_size / (time.perf_counter() - started_sec)
        lines.append(json.dumps({"speed/images_per_sec": speed}))
    if trainer.accelerator.is_main_process:
        (Path(config.run) / "metrics.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    run_process(lambda: run(main))
