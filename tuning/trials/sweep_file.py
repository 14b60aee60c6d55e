"""``sweep.yaml``: what a sweep was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shards.base.errors import UserError
from shards.base.files import write_bytes, writing_to
from shards.base.formats import Format
from tuning.search.space import space_from_dict, space_to_dict

SWEEP_FILE = "sweep.yaml"
FORMAT = Format("sweep", version=1, first=1)


def write_sweep(out: Path, values: dict[str, Any]) -> None:
    """Writes the space as plain values, the data with its fingerprint, workers and storage.

    Raises:
        UserError: Nothing can be written there.
    """
    with writing_to(out, "give another --out"):
        write_bytes(out / SWEEP_FILE, yaml.safe_dump(FORMAT.stamp(values), sort_keys=False).encode())


def read_sweep(out: Path) -> dict[str, Any]:
    """Reads what ``write_sweep`` wrote. Options of spaces that were added since have their defaults.

    Raises:
        UserError: Not a sweep's file, or one of a newer release.
    """
    file = out / SWEEP_FILE
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    values = FORMAT.read(file, content)
    return values | {"space": plain(space_to_dict(space_from_dict(values["space"], str(file))))}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as YAML gives them back: lists for tuples."""
    return yaml.safe_load(yaml.safe_dump(values))
