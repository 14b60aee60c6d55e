"""Sweeps that take seconds: a space, and the command that runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

# No batch norm: its statistics depend on how a batch is split.
TINY: dict[str, Any] = {
    "model.latent_size": 8,
    "model.network.widths": [8, 16],
    "model.network.norm": "none",
    "global_batch_size": 16,
    "optim.warmup_images": 32,
    "loader.num_threads": 0,
    "monitor.num_validation_images": 20,
    "monitor.log_every_images": 64,
    "monitor.grid_every_images": 10**9,
}


def write_space(file: Path, **fields: Any) -> Path:
    """Writes a space of tiny VAEs over two KL weights; ``fields`` replace its own, but ``options`` are added."""
    space: dict[str, Any] = {
        "family": "vae",
        "search": {"model.kld_weight": {"grid": [0.01, 0.1]}},
        "max_images": 256,
        "evaluate_every_images": 64,
    }
    options = TINY | fields.pop("options", {})
    file.write_text(yaml.safe_dump(space | fields | {"options": options}))
    return file


def command(space: Path, data: Path, out: Path, *arguments: str) -> list[str]:
    """The command of the sweep."""
    program = [sys.executable, "-m", "tuning.sweep", str(space), "--data", str(data), "--out", str(out)]
    return [*program, "--report", "false", *arguments]
