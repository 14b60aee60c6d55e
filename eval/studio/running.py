"""A run in progress: the numbers, curves and pictures that it has written so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.base.run_pictures import training_pictures
from eval.drawing.charts import CURVES, training_curves
from facegen.runs.config_file import CONFIG_FILE, read_config
from facegen.runs.metrics_file import METRICS_FILE, read_metrics
from shards.base.errors import UserError

PictureKind = Literal["reconstructions", "samples"]
KINDS: tuple[PictureKind, ...] = ("reconstructions", "samples")
_SHOWN = 8
"""Numbers shown."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run has come."""

    images_seen: int
    goal: str
    """When it stops, by its config; empty without a limit."""
    latest: dict[str, float]
    """The newest value of each training and held-out number."""
    curves: dict[str, str]
    """Title by key, of the curves that can be drawn."""
    pictures: dict[PictureKind, list[int]]
    """Images seen at each picture, by kind, in order."""
    warnings: list[str]


class Training:
    """A run directory, read again each time."""

    def __init__(self, name: str, run: Path) -> None:
        """Reads nothing yet."""
        self.name = name
        self.run = run

    def progress(self) -> TrainingProgress:
        """Everything but the pictures and curves themselves."""
        points = read_metrics(self.run)
        latest = {
            key: value
            for point in points
            for key, value in point.items()
            if key.count("/") == 1 and isinstance(value, (int, float)) and math.isfinite(value)
        }
        ordered = sorted(latest, key=lambda key: (key.split("/")[1] not in CURVES, key))[:_SHOWN]
        return TrainingProgress(
            images_seen=int(max((point.get("images_seen", 0) for point in points), default=0)),
            goal=_goal(self.run),
            latest={key: latest[key] for key in ordered},
            curves={key: title for key, (title, _) in CURVES.items() if training_curves(key, [(self.name, points)])},
            pictures={kind: [number for number, _ in self._pictures(kind)] for kind in KINDS},
            warnings=[str(point["warning"]) for point in points if "warning" in point][-3:],
        )

    def curve(self, key: str) -> str:
        """A curve as SVG.

        Raises:
            UserError: The run has no such curve (yet).
        """
        drawn = training_curves(key, [(self.name, read_metrics(self.run))]) if key in CURVES else None
        if drawn is None:
            raise UserError(f"{self.name} has no curve of this name yet.")
        return drawn

    def picture(self, kind: PictureKind, images_seen: int) -> bytes:
        """The content of a PNG file that training drew.

        Raises:
            UserError: There is no such picture.
        """
        found = dict(self._pictures(kind)).get(images_seen)
        if found is None:
            raise UserError(f"{self.name} drew no {kind} after {images_seen:,} images.")
        return found.read_bytes()

    def _pictures(self, kind: PictureKind) -> list[tuple[int, Path]]:
        return training_pictures(self.run, kind, 2**62)


def is_run(path: Path) -> bool:
    """Whether a training has started in a directory."""
    return (path / CONFIG_FILE).is_file() or (path / METRICS_FILE).is_file()


def _goal(run: Path) -> str:
    try:
        config = read_config(run)
    except UserError:
        return ""
    limits = {unit: config.get(f"max_{unit}") for unit in ("images", "steps", "epochs")}
    return " or ".join(f"{limit:,g} {unit}" for unit, limit in limits.items() if isinstance(limit, (int, float)))
