"""``state.json`` of a checkpoint: how far the run is, and the options and the data it was trained with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from facegen.runs import file_formats
from shards.base.records import Count, read_record

STATE_FILE = "state.json"
RESTORE = "delete this checkpoint to resume from the one before it, or restore it from a copy"
"""What to do about a checkpoint that is complete and yet cannot be read."""


@dataclass
class Progress:
    """The state of early stopping."""

    metric: str | None = None
    goal: str = "min"
    best: float | None = None
    """Best value so far."""
    best_images_seen: Count = 0
    validated_images_seen: Count = 0
    """Position of the last validation."""
    num_without_gain: Count = 0
    """Validations since the best."""


@dataclass
class Facts:
    """The content of ``state.json``."""

    images_seen: Count
    early_stop: Progress | None = field(default=None, kw_only=True)
    """None in the oldest checkpoints."""
    total_images: Count
    """Where training was to end."""
    dataset_fingerprint: str
    config: dict[str, Any]
    """The full resolved training config."""
    canonical_nodes: Count = field(default=1, kw_only=True)
    """Lanes of the order of images; 1 in older checkpoints."""


def write_facts(directory: Path, facts: Facts) -> None:
    """Writes the ``state.json`` of a checkpoint."""
    content = file_formats.STATE.stamp(asdict(facts))
    (directory / STATE_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_facts(directory: Path) -> Facts:
    """Reads the ``state.json`` of a checkpoint, an older version as this one would have written it.

    Raises:
        UserError: A damaged file, or a newer version.
    """
    return read_record(directory / STATE_FILE, Facts, RESTORE, file_formats.STATE)
