"""Run directories without training: a snapshot of a tiny family's initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from facegen.config import config_class
from facegen.families import build
from facegen.networks.conv_config import ImageShape
from facegen.options import EMAConfig
from facegen.runs.snapshot import save_snapshot
from facegen.training.saver import describe
from shards.dataset.dataset import Dataset
from tiny_families import tiny_config


def untrained_run(run: Path, data: Path, family: str = "vae", seed: int = 0, **options: Any) -> Path:
    """Writes a run whose latents vary enough for faces to differ; ``options`` are the model's."""
    dataset = Dataset(data)
    model = tiny_config(family, **options)
    config = config_class(family)(data=str(data), run=str(run), seed=seed, ema=EMAConfig(0), model=model)
    torch.manual_seed(seed)
    network = build(family, model, ImageShape(dataset.image.channels, dataset.image.height, dataset.image.width))
    for name, parameter in network.named_parameters():
        if name.endswith("weight") and parameter.ndim > 1:
            parameter.data *= 2
    save_snapshot(run, describe(config, dataset, 640, 0.5), {"raw": network}, keep=1)
    return run
