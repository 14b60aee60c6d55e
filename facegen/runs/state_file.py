"""``state.json`` of a checkpoint: how far the run is, and the options and the data it was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facegen.runs import file_formats

STATE_FILE = "state.json"


def write_facts(directory: Path, facts: Mapping[str, Any]) -> None:
    """Writes the ``state.json`` of a checkpoint."""
    content = file_formats.STATE.stamp(facts)
    (directory / STATE_FILE).write_text(json.dumps(content, indent=1) + "\n")


def read_facts(directory: Path) -> dict[str, Any]:
    """Reads the ``state.json`` of a checkpoint, an older version as this one would have written it.

    Raises:
        UserError: A newer version.
    """
    path = directory / STATE_FILE
    return file_formats.STATE.read(path, json.loads(path.read_text()))
