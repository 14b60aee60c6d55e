"""A small plug-in of each other kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.tracking import GeneralTracker
from torch import Tensor

from eval.reports.part import Part
from eval.reports.results import Measure, Metric
from facegen.reporting.trackers import TrackerKind
from facegen.samplers import Entry
from facegen.samplers.base import Latents, Sampler
from shards.sources.base import Item, SourceEntry


@dataclass
class SquaresConfig:
    """Images of one brightness each."""

    num: int = 40
    """Number of images."""


class Squares:
    name, fields, identity_field, crop, provenance = "squares", {}, None, None, {}

    def __init__(self, config: SquaresConfig) -> None:
        self._num = config.num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, position: int) -> Item:
        return Item(f"square/{position}", ref=position)

    def load(self, item: Item) -> np.ndarray:
        return np.full((16, 16, 3), 255 * item.ref // self._num, np.uint8)


SOURCE = SourceEntry(SquaresConfig, lambda config, size: Squares(config))


@dataclass
class CenterConfig:
    """The mean of the latents, with a little noise."""

    spread: float = 0.1
    """Standard deviation of the noise."""


class CenterSampler(Sampler):
    center: Tensor

    def __init__(self, config: CenterConfig, latent_size: int) -> None:
        super().__init__(config, latent_size)
        self.noise_size = latent_size
        self.register_buffer("center", torch.zeros(latent_size))

    def fit(self, latents: Latents, seed: int) -> None:
        self.center.copy_(latents.mu.mean(0))

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        return self.center + std * self.config.spread * noise


SAMPLER = Entry(CenterConfig, CenterSampler)

PART = Part(
    name="parameters",
    content="number of parameters",
    rows=[Metric("num_parameters", "Parameters of the plug-in", "Plug-ins", format="si")],
    measure=lambda run: {"num_parameters": Measure(float(run.model.num_parameters))},
)


class Lines(GeneralTracker):
    """Appends what it gets to a file."""

    name, requires_logging_directory = "lines", True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def tracker(self) -> Path:
        return self._path

    def start(self) -> None:
        self._path.touch()

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.log({"family": values["family"]})

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


TRACKER = TrackerKind(
    start=lambda name, run, project, group: {"path": run / "lines.jsonl"},
    name_of=lambda tracker: "lines",
    draw=lambda tracker, name, image, file, images_seen: tracker.log({name: file.name}, step=images_seen),
    tracker_class=Lines,
)
