"""``config.yaml`` of a run: the full resolved options, from which ``--config`` trains again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from facegen.option_values import to_dict
from facegen.options import TrainConfig
from facegen.runs import file_formats
from shards.base.errors import DamagedFile
from shards.base.files import write_bytes
from shards.base.yaml_text import read_yaml

CONFIG_FILE = "config.yaml"


def save_config(config: TrainConfig) -> None:
    """Writes ``config.yaml``, with the command that trains from it again."""
    command = f"# Train again: accelerate launch facegen/train.py {config.family} --config THIS_FILE --run NEW_RUN\n"
    content = yaml.safe_dump(file_formats.CONFIG.stamp(to_dict(config)), sort_keys=False)
    write_bytes(Path(config.run) / CONFIG_FILE, (command + content).encode(), durable=False)


def read_config(run: Path) -> dict[str, Any]:
    """The options in a run's ``config.yaml``, an older version as this one would have written it.

    Raises:
        UserError: No such file, a damaged one, or a newer version.
    """
    path = run / CONFIG_FILE
    advice = "restore it from a copy"
    return file_formats.CONFIG.read(path, read_yaml(path, advice), advice)


def upgraded_options(path: Path) -> dict[str, Any] | None:
    """The options in a file that a run wrote, brought to this version; None for a file that was written by hand.

    A run's file names its version, or, before there was one, the run. In a file written by hand, options that it does
    not name have today's defaults.

    Raises:
        UserError: It cannot be read, or has a newer version.
    """
    try:
        content = read_yaml(path, "fix the file") if os.path.isfile(path) else None
    except DamagedFile:
        return None  # The parser says what is wrong.
    if isinstance(content, dict) and content.keys() & {file_formats.CONFIG.key, "run"}:
        return file_formats.CONFIG.read(path, content)
    return None
