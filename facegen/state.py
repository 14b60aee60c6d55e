"""What a checkpoint holds: weights, moving average, optimizers, and how many images they have seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.checkpoint import load_module, load_state, save_module, save_state
from facegen.ema import EMA
from facegen.families import Family
from facegen.optim import Updater

STATE_FILE = "state.json"


@dataclass
class TrainState:
    """Everything that a training step changes; order, schedules, noise and augmentation follow from ``images_seen``."""

    family: Family
    ema: EMA | None
    updaters: dict[str, Updater]
    images_seen: int = 0

    @property
    def inference_family(self) -> Family:
        """The networks that inference will use: the moving average where there is one."""
        return self.ema.module if self.ema else self.family

    def write(self, directory: Path, facts: dict[str, Any]) -> None:
        """Writes the state into an empty directory, with ``facts`` (config, fingerprint) in ``state.json``."""
        (directory / STATE_FILE).write_text(json.dumps({"images_seen": self.images_seen, **facts}, indent=1) + "\n")
        save_module(self.family, directory / "weights.safetensors")
        if self.ema:
            save_module(self.ema.module, directory / "ema.safetensors")
        save_state(directory / "optimizers.pt", {name: updater.state_dict() for name, updater in self.updaters.items()})

    def read(self, directory: Path) -> None:
        """Restores what ``write`` wrote."""
        self.images_seen = read_facts(directory)["images_seen"]
        load_module(self.family, directory / "weights.safetensors")
        if self.ema:
            load_module(self.ema.module, directory / "ema.safetensors")
        optimizers = load_state(directory / "optimizers.pt")
        for name, updater in self.updaters.items():
            updater.load_state_dict(optimizers[name])


def read_facts(directory: Path) -> dict[str, Any]:
    """The ``state.json`` of a checkpoint."""
    return json.loads((directory / STATE_FILE).read_text())
