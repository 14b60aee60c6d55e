"""``sweep.yaml``: what a sweep was started with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from shards.base.files import write_bytes, writing_to
from shards.base.formats import Format
from shards.base.records import Count, as_record
from shards.base.yaml_text import read_yaml
from tuning.search.space import space_from_dict, space_to_dict

SWEEP_FILE = "sweep.yaml"
FORMAT = Format("sweep", version=1, first=1)


@dataclass(frozen=True)
class _Sweep:
    space: dict[str, Any]
    data: str
    data_fingerprint: str = ""
    workers_per_trial: Count = 1
    storage: str | None = None


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
    file, advice = out / SWEEP_FILE, "restore it from a copy, or give another sweep"
    stored = as_record(FORMAT.read(file, read_yaml(file, advice), advice), _Sweep, file, advice)
    space = space_from_dict(stored.space, f"{file}: space")
    return asdict(stored) | {"space": plain(space_to_dict(space))}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as YAML gives them back: lists for tuples."""
    return yaml.safe_load(yaml.safe_dump(values))
