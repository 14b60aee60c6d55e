"""Reads the options of a training run, shared and the family's own, from presets, YAML files and the command line."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from facegen.families import FAMILIES
from facegen.options import TrainConfig
from shards.base.cli import Parser, parse_command
from shards.base.errors import UserError

PRESETS = Path(__file__).resolve().parent / "presets"


@functools.cache
def config_class(family: str) -> type[TrainConfig]:
    """The options of one family's training: ``TrainConfig`` with the family's own options as ``model``."""
    model_class = FAMILIES[family].config_class
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
        args=resolve_presets(args),
    )
    return config


def resolve_presets(args: Sequence[str], directory: Path = PRESETS) -> list[str]:
    """Turns ``--config NAME`` of a shipped preset into its path.

    Raises:
        UserError: Neither a file nor a preset.
    """
    resolved = list(args)
    for position, arg in enumerate(resolved):
        name = arg.removeprefix("--config=") if arg.startswith("--config=") else None
        if name is None and position and resolved[position - 1] == "--config":
            name = arg
        if name is None or Path(name).is_file():
            continue
        preset = directory / f"{name}.yaml"
        if not preset.is_file():
            presets = sorted(path.stem for path in directory.glob("*.yaml"))
            nearest = difflib.get_close_matches(name, presets, n=3, cutoff=0.3) or presets
            raise UserError(f"--config {name} is neither a file nor a preset; near it: {', '.join(nearest)}.")
        resolved[position] = arg.replace(name, str(preset))
    return resolved


def model_config_from_dict(family: str, values: dict[str, Any]) -> Any:
    """A family's config dataclass from plain values, checked like a YAML file."""
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(FAMILIES[family].config_class, "model")
    return parser.instantiate(parser.parse_object({"model": values})).model
