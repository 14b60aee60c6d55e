"""Trains like facegen/train.py, and disturbs one rank at one moment.

Usage: disturbed_run.py DISTURBANCE RANK MOMENT IMAGES_SEEN FAMILY [options of facegen/train.py]

DISTURBANCE is the name of a signal, or nan. MOMENT is what the run does after IMAGES_SEEN images when it happens:

    step         it begins a step
    evaluation   it encodes held-out images
    pictures     it draws on the main process; drawing takes a second, and the signal comes in its middle
    checkpoint   it saves on the main process; saving takes a second, and the signal comes in its middle
    loss         it computes the loss; the only moment for nan
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from torch import distributed

from facegen.processes.group import run_process
from facegen.processes.preemption import EXIT_PREEMPTED
from facegen.training.trainer import Trainer

TOLD = "is disturbed"
"""Part of the line that is printed at that moment."""


def main() -> int:
    """Trains, and prints the exit code of this rank."""
    disturbance, rank, moment, images_seen = sys.argv[1:5]

    class DisturbedTrainer(Trainer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            disturb(self, disturbance, int(rank), moment, int(images_seen))

    train = importlib.import_module("facegen.train")  # facegen.train is the function.
    train.Trainer = DisturbedTrainer  # type: ignore[attr-defined]
    sys.argv[1:] = sys.argv[5:]
    code = train.main()
    assert code not in (0, EXIT_PREEMPTED) or not distributed.is_initialized()
    print(f"rank {os.environ['RANK']} ends with {code}", flush=True)
    return code


def disturb(trainer: Trainer, disturbance: str, rank: int, moment: str, images_seen: int) -> None:
    """Prepares the disturbance."""
    is_chosen = trainer.accelerator.process_index == rank

    def is_now() -> bool:
        return trainer.images_seen == images_seen

    def strike() -> None:
        print(f"rank {rank} {TOLD}", flush=True)
        os.kill(os.getpid(), signal.Signals[disturbance])

    def strike_at_once() -> None:
        if is_chosen and is_now():
            strike()

    def strike_soon() -> None:
        if is_chosen and is_now():
            threading.Timer(0.3, strike).start()

    def linger() -> None:
        if trainer.accelerator.is_main_process and is_now():
            time.sleep(1)

    def spoil(losses: Any) -> Any:
        if not (is_chosen and is_now()):
            return losses
        bad = losses.loss * float("nan")
        return dataclasses.replace(losses, loss=bad, scalars=losses.scalars | {"loss": bad.detach()})

    if moment == "step":
        extend(trainer, "_train_step", before=strike_at_once)
    elif moment == "evaluation":
        extend(trainer.family, "posterior", before=strike_at_once)
    elif moment == "pictures":
        extend(trainer.reporter, "draw", before=strike_soon, after=lambda result: linger())
    elif moment == "checkpoint":
        extend(trainer, "_save", before=strike_soon)
        extend(trainer.state, "write", after=lambda result: linger())
    elif moment == "loss":
        extend(trainer.family, "losses", after=spoil)
    else:
        raise ValueError(moment)


def extend(
    owner: Any,
    name: str,
    before: Callable[[], None] = lambda: None,
    after: Callable[[Any], Any] = lambda result: result,
) -> None:
    """Wraps a method of one object."""
    right = getattr(owner, name)

    def extended(*args: Any, **options: Any) -> Any:
        before()
        return after(right(*args, **options))

    setattr(owner, name, extended)


if __name__ == "__main__":
    run_process(main)
