"""Shell completion: ``python -m facegen.completion bash`` prints a script that completes commands and options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args, get_origin

from facegen.command import COMMANDS
from shards.base.errors import UserError
from shards.command_line import cli


@dataclass
class CompletionConfig:
    """Options of the completion script."""

    shell: Literal["bash", "zsh", "tcsh"]
    """Shell to complete in."""


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        CompletionConfig,
        prog="python -m facegen.completion",
        description="Prints a script that completes the commands of facegen and their options; it takes half a minute.",
        positional=["shell"],
        args=args,
    )
    if find_spec("shtab") is None:
        raise UserError("completion needs shtab; install: pip install 'facegen[completion]'")
    print(script(config.shell))


def script(shell: str) -> str:
    """The completion script for a shell; commands whose packages are missing are completed without their options."""
    import shtab

    root = argparse.ArgumentParser("facegen")
    commands = root.add_subparsers()
    for name, command in COMMANDS.items():
        parser = commands.add_parser(name, help=command.about)
        parsers = _parsers(command.module)
        if len(parsers) == 1:
            _add_options(parser, *parsers.values())
        elif parsers:
            choices = parser.add_subparsers()
            for prog, part in parsers.items():
                _add_options(choices.add_parser(prog.split()[-1], help=prog), part)
    return shtab.complete(root, shell)


def _parsers(module: str) -> dict[str, cli.Parser]:
    sys.argv = [module]
    try:
        owner = import_module(module)
        if hasattr(owner, "__path__"):
            owner = import_module(f"{module}.__main__")
        return cli.parsers_of(owner.main)
    except UserError:
        return {}


def _add_options(parser: argparse.ArgumentParser, known: cli.Parser) -> None:
    """Adds the options of a parser of this project to a plain one, as far as a shell can complete them."""
    for action in known._actions:
        names = [name for name in action.option_strings if name.startswith("--") and name != "--help"]
        if names or not action.option_strings:
            parser.add_argument(*(names or [action.dest]), choices=_choices(getattr(action, "_typehint", None)))


def _choices(hint: Any) -> list[str] | None:
    """What an option can be, where that is a list of words."""
    if hint is bool:
        return ["true", "false"]
    return [str(choice) for choice in get_args(hint)] if get_origin(hint) is Literal else None


if __name__ == "__main__":
    cli.run(main)
