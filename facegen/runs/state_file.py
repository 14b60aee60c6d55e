"""``state.json`` of a checkpoint: how far the run is, and the options and the data it was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"


def write_facts(directory: Path, facts: Mapping[str, Any]) -> None:
    """Writes the ``state.json`` of a checkpoint."""
    (directory / STATE_FILE).write_text(json.dumps(facts, indent=1) + "\n")


def read_facts(directory: Path) -> dict[str, Any]:
    """Reads the ``state.json`` of a checkpoint."""
    return json.loads((directory / STATE_FILE).read_text())
