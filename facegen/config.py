"""Reads the options of a training run, shared and the family's own, from presets, YAML files and the command line."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import yaml

from facegen.families import FAMILIES, options_class
from facegen.option_values import plain
from facegen.options import TrainConfig
from facegen.runs.config_file import upgraded_options
from shards.base.errors import UserError
from shards.base.yaml_text import read_yaml
from shards.command_line.cli import parse_command, raising

PRESETS = Path(__file__).resolve().parent / "presets"


@functools.cache
def config_class(family: str) -> type[TrainConfig]:
    """The options of one family's training: ``TrainConfig`` with the family's own options as ``model``."""
    model_class = options_class(family)
    return dataclasses.make_dataclass(
        "TrainConfig",
        [
            ("family", Literal[family], field(default=family)),  # type: ignore[valid-type]
            ("model", model_class, field(default_factory=model_class)),
        ],
        bases=(TrainConfig,),
        namespace={"__doc__": FAMILIES[family].family_class.__doc__},
        kw_only=True,
    )


def parse_args(args: Sequence[str]) -> TrainConfig:
    """Reads ``FAMILY --data DIR --run RUN [--config PRESET or FILE] [--any.option value]``; bad input exits with 2."""
    _, config = parse_command(
        {family: config_class(family) for family in FAMILIES},
        prog="accelerate launch facegen/train.py",
        description="Train one family of models on packed faces.",
        dest="family",
        args=_upgrade_files(resolve_presets(args)),
    )
    return config


def make_config(what: str | os.PathLike[str], **options: Any) -> TrainConfig:
    """The options of a training run, checked as the command line checks them.

        facegen.make_config("vae_demo", data="data/faces", run="runs/vae", optim={"lr": 1e-4}, seed=1)

    Args:
        what: A family such as ``vae``, a shipped preset such as ``vae_demo``, or a YAML file that names its family.
        options: ``data``, ``run`` and any others by name. The options of a section come as a dict, as its dataclass, or
            by their dotted names in ``**{"optim.lr": 1e-4}``.

    Raises:
        UserError: A name or a value that is not there, with the nearest right one.
    """
    arguments = [f"--{name}={_text(value)}" for name, value in _dotted(options)]
    name = os.fspath(what)
    if name in FAMILIES:
        family, files = name, []
    else:
        preset = find_preset(name)
        content = read_yaml(preset, "fix the file")
        if not isinstance(content, dict) or not isinstance(content.get("family"), str):
            raise UserError(f"{preset} names no family; add one, such as family: vae.")
        family, files = content["family"], ["--config", str(preset)]
    with raising():
        return parse_args([family, *files, *arguments])


def resolve_presets(args: Sequence[str], directory: Path = PRESETS) -> list[str]:
    """Turns ``--config NAME`` of a shipped preset into its path.

    Raises:
        UserError: Neither a file nor a preset.
    """
    resolved = list(args)
    for position, prefix, name in _config_arguments(args):
        resolved[position] = f"{prefix}{find_preset(name, directory)}"
    return resolved


def find_preset(name: str, directory: Path = PRESETS) -> Path:
    """The file of that name, or the shipped preset.

    Raises:
        UserError: Neither a file nor a preset.
    """
    preset = directory / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    if preset.is_file():
        return preset
    presets = sorted(path.stem for path in directory.glob("*.yaml"))
    nearest = difflib.get_close_matches(name, presets, n=3, cutoff=0.3) or presets
    raise UserError(f"{name} is neither a file nor a preset; near it: {', '.join(nearest)}.")


def _upgrade_files(args: Sequence[str]) -> list[str]:
    """Replaces the file of ``--config``, where a run wrote it, by its options, brought to this version."""
    upgraded = list(args)
    for position, prefix, name in _config_arguments(args):
        options = upgraded_options(Path(name))
        if options is not None:
            upgraded[position] = prefix + yaml.safe_dump(options)
    return upgraded


def _dotted(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options by their dotted names, sections as dicts or dataclasses taken apart."""
    for name, value in options.items():
        section = plain(value)
        if isinstance(section, dict):
            yield from _dotted(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", section


def _text(value: Any) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return value if isinstance(value, str) else json.dumps(value)


def _config_arguments(args: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Position, prefix and value of each ``--config VALUE`` and ``--config=VALUE``."""
    for position, arg in enumerate(args):
        if arg.startswith("--config="):
            yield position, "--config=", arg.removeprefix("--config=")
        elif position and args[position - 1] == "--config":
            yield position, "", arg
