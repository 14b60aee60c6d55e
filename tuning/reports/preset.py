"""The configuration of a run as a preset for ``facegen/train.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from facegen.config import config_class
from facegen.option_values import to_dict
from facegen.runs.config_file import read_config
from shards.base.files import write_bytes, writing_to

# Where it was trained, and what the sweep sets for its own purposes.
_LEFT_OUT = ("data", "run", "dry_run", "profile", "checkpoint")


def write_preset(run: Path, file: Path, comment: str, named: Sequence[str]) -> None:
    """Writes the options in which a run differs from its family's defaults.

    Args:
        run: A run directory.
        file: The preset.
        comment: Comment at the head of the file.
        named: Options to write even if they have their default, by their dotted names.
    """
    config = read_config(run)
    family = config["family"]
    defaults = config_class(family)(data="-", run="-")  # type: ignore[call-arg]
    default = yaml.safe_load(yaml.safe_dump(to_dict(defaults)))
    for option in named:
        _remove(default, option)
    changed = {name: value for name, value in _changed(config, default).items() if name not in _LEFT_OUT}
    for name in ("validate_every_images", "tracker_group"):
        changed.get("monitor", {}).pop(name, None)
    kept = {"family": family} | {name: value for name, value in changed.items() if value != {}}
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    with writing_to(file):
        write_bytes(file, (lines + yaml.safe_dump(kept, sort_keys=False)).encode())


def _remove(values: dict[str, Any], option: str) -> None:
    *groups, name = option.split(".")
    for group in groups:
        values = values[group]
    values.pop(name, None)  # A network's own learning rate has no default.


def _changed(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """The values that differ, nested as before."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        other = default.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            inner = _changed(value, other)
            if inner:
                found[name] = inner
        elif value != other:
            found[name] = value
    return found
