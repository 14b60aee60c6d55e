"""The state in a checkpoint: weights, moving average, optimizers, early stopping, and the number of images seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from facegen.families.base import Family
from facegen.optimization.batch_statistics import BatchStatistics
from facegen.optimization.early_stop import EarlyStop
from facegen.optimization.ema import EMA
from facegen.optimization.optim import Updater
from facegen.processes.group import share_buffers
from facegen.runs.checkpoint import load_module, load_state, save_module, save_state
from facegen.runs.state_file import RESTORE, Facts, read_facts, write_facts
from shards.base.errors import UserError, shown


@dataclass
class TrainState:
    """Everything that training changes; order, schedules, noise and augmentation follow from ``images_seen``."""

    family: Family
    ema: EMA | None
    updaters: dict[str, Updater]
    early_stop: EarlyStop
    statistics: BatchStatistics | None = None
    """Estimates batch norm's statistics of the moving average; None leaves them as averaged."""
    images_seen: int = 0
    _estimated_at: int | None = field(default=None, init=False)

    def prepare_inference(self) -> Family:
        """The networks for inference, in eval mode and the same in every process; every process must call it.

        That is the moving average where there is one. Its batch norm is estimated whenever it is used and written, so
        that it follows from the weights alone.
        """
        if self.ema and self.statistics and self._estimated_at != self.images_seen:
            self.statistics.estimate(self.ema.module)
            self._estimated_at = self.images_seen
        family = (self.ema.module if self.ema else self.family).eval()
        share_buffers(family)
        return family

    @property
    def inference_modules(self) -> dict[str, nn.Module]:
        """The modules of a snapshot by name, the better weights first."""
        averaged: dict[str, nn.Module] = {"ema": self.ema.module} if self.ema else {}
        return averaged | {"raw": self.family}

    def write(self, directory: Path, facts: Facts) -> None:
        """Writes the state into an empty directory, with ``facts`` and how far it is in ``state.json``."""
        write_facts(directory, replace(facts, images_seen=self.images_seen, early_stop=self.early_stop.progress))
        save_module(self.family, directory / "weights.safetensors")
        if self.ema:
            save_module(self.ema.module, directory / "ema.safetensors")
        save_state(directory / "optimizers.pt", {name: updater.state_dict() for name, updater in self.updaters.items()})

    def read(self, directory: Path) -> None:
        """Restores what ``write`` wrote.

        Raises:
            UserError: A file that is damaged or of other networks or optimizers.
        """
        facts = read_facts(directory)
        self.images_seen = facts.images_seen
        self.early_stop.restore(facts.early_stop)
        load_module(self.family, directory / "weights.safetensors")
        if self.ema:
            load_module(self.ema.module, directory / "ema.safetensors")
        optimizers = load_state(directory / "optimizers.pt")
        try:
            for name, updater in self.updaters.items():
                updater.load_state_dict(optimizers[name])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{directory} holds the state of other optimizers ({shown(error)}); {RESTORE}.") from None
