"""What the trials of a sweep share, and what each has of its own: name, run directory, training options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem

from facegen.config import parse_args
from facegen.options import TrainConfig
from shards.command_line.cli import raising
from tuning.search.space import Space
from tuning.trials.run_storage import RunStorage, open_storage

TRIALS = "trials"
_RAY = "ray"
_TRACKERS, _GROUP = "monitor.trackers", "monitor.tracker_group"
_KEPT_CHECKPOINTS = 2
_KEPT_FOR_OTHERS = 4
"""Checkpoints that a trial keeps if others may continue from them: it trains on before they do."""
_MAX_NAME = 80


@dataclass(frozen=True)
class SweepPlan:
    """What all trials of a sweep share."""

    space: Space
    data: str
    """Packed data set."""
    out: Path
    """The sweep's folder."""
    num_workers: int = 1
    """Processes of one trial."""
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    storage: str | None = None
    """URL of the copies of the runs, for machines without a shared file system."""

    def run_directory(self, name: str) -> Path:
        """The run directory of a trial."""
        return self.out / TRIALS / name

    def run_storage(self) -> RunStorage | None:
        """The copies of the runs; None if all machines see the runs themselves."""
        return RunStorage(f"{self.storage}/{TRIALS}") if self.storage else None

    def ray_storage(self) -> tuple[str, FileSystem | None]:
        """Path of Ray's own files of the sweep, and the file system that it is on (None: local)."""
        if self.storage is None:
            return str(self.out / _RAY), None
        system, path = open_storage(f"{self.storage}/{_RAY}")
        return path, system

    def arguments(self, name: str, params: Mapping[str, Any]) -> list[str]:
        """The options of ``facegen/train.py`` that train this trial."""
        space = self.space
        interval = space.evaluation_interval
        keep = _KEPT_FOR_OTHERS if space.scheduler.kind == "pbt" else _KEPT_CHECKPOINTS
        options: dict[str, Any] = {"data": self.data, "run": str(self.run_directory(name))}
        options |= {**space.options, **params}
        options |= {"max_images": space.max_images, "max_steps": None, "max_epochs": None}
        options |= {"monitor.validate_every_images": interval, "checkpoint.every_images": interval}
        options["checkpoint.keep"] = keep
        if _TRACKERS in options:
            options.setdefault(_GROUP, re.sub(r"[^\w .+=,-]+", "_", self.out.name))
        preset = ["--config", space.preset] if space.preset else []
        return [space.family, *preset, *(text for item in options.items() for text in (f"--{item[0]}", _text(item[1])))]

    def config(self, name: str, params: Mapping[str, Any]) -> TrainConfig:
        """The trial's training options, read as ``facegen/train.py`` reads them.

        Raises:
            UserError: An unknown option, or a value that it does not take.
        """
        with raising():
            return parse_args(self.arguments(name, params))


def trial_name(index: int, params: Mapping[str, Any], changes: bool) -> str:
    """Name of a trial: its number and its values, such as ``003-kld_weight=0.1``.

    Args:
        index: Number of the trial in its sweep.
        params: Its values of the options that are searched.
        changes: Whether they change in training; then the name leaves them out.
    """
    if changes:
        return f"{index:03d}"
    values = ",".join(f"{option.rsplit('.', 1)[-1]}={_short(value)}" for option, value in sorted(params.items()))
    return re.sub(r"[^\w.,=+-]+", "_", f"{index:03d}-{values}")[:_MAX_NAME].rstrip("_,")


def plain(value: Any) -> Any:
    """A value as JSON holds it; searchers draw numpy scalars."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value))


def _short(value: Any) -> str:
    value = plain(value)
    if isinstance(value, list):
        return "+".join(_short(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
