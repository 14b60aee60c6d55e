"""The command ``facegen``: every command of the project under one name, ``facegen pack`` for ``python -m shards.pack``.

It imports only the module that owns the command, and runs it as ``python -m`` would: the same options, the same exit
codes. Unlike ``python -m``, it never looks for modules in the current folder.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ENTRY = Path(__file__).with_name("__main__.py")
"""The command as a script: whatever starts a process of the project by this path finds this very installation."""
LAUNCHED = ("train", "report")
"""The commands that several processes can share."""
_LAUNCH = "--launch"
_COLUMN = 40


class Command(NamedTuple):
    """A command."""

    module: str
    """The module that owns it, as ``python -m`` takes it."""
    about: str
    """A few words, for a half line of the terminal."""


GROUPS: dict[str, dict[str, Command]] = {
    "data": {
        "fetch": Command("shards.fetch", "download a data set"),
        "pack": Command("shards.pack", "images into shards"),
        "index": Command("shards.index", "index, verify shards"),
        "copy": Command("shards.copy", "copy a data set"),
        "push_data": Command("shards.push_data", "share a data set"),
        "inspect": Command("shards.inspect", "look at a data set"),
        "align": Command("shards.align", "align faces"),
        "label": Command("shards.label", "measure smiles"),
    },
    "training": {
        "train": Command("facegen.train", "train a model"),
        "fit_sampler": Command("facegen.fit_sampler", "better samples"),
        "sweep": Command("tuning.sweep", "try many options"),
        "sweep_report": Command("tuning.report", "compare what was tried"),
    },
    "measuring": {
        "report": Command("eval.report", "compare runs"),
        "verify": Command("eval.verify", "same person or not"),
        "control": Command("eval.control", "degrees, asked and got"),
        "bias": Command("eval.bias", "gender and smile"),
        "disentanglement": Command("eval.disentanglement", "factors in latent dims"),
        "weights": Command("eval.weights", "networks for metrics"),
        "push": Command("eval.push", "share a model"),
    },
    "faces": {
        "studio": Command("eval.studio", "edit in the browser"),
        "sample": Command("eval.sample", "new faces"),
        "edit": Command("eval.attributes", "attribute vectors"),
        "morph": Command("eval.morph", "one face to another"),
        "smile": Command("eval.smile", "all degrees of a face"),
        "traverse": Command("eval.traverse", "vary latent dims"),
        "tsne": Command("eval.tsne", "map of the latents"),
        "neighbors": Command("eval.neighbors", "nearest training faces"),
        "export": Command("eval.export", "ONNX, or a page"),
    },
    "more": {
        "demo": Command("eval.demo", "from nothing to a report"),
        "jobs": Command("facegen.jobs", "launch files"),
        "completion": Command("facegen.completion", "for your shell"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name, and exits as it does.

    Args:
        args: Name and arguments; the process's own when None.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(help_text())
        return
    if name == "--version":
        from facegen import __version__

        print(f"facegen {__version__}")
        return
    name = name.replace("-", "_")
    if name not in COMMANDS:
        _refuse(name)
    from shards.command_line.naming import call

    call(spellings())
    rest = arguments[1:]
    options = _take_launch(name, rest)
    if options is not None:
        from facegen.processes.launcher import launch

        launch(options, ENTRY, [name, *rest])
        return
    sys.argv = [name, *rest]
    runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)


def help_text() -> str:
    """All commands, on one screen of a terminal."""
    lines = ["usage: facegen COMMAND [options]; each command has a --help of its own"]
    for title, group in GROUPS.items():
        entries = [f"  {name:<16}{command.about}" for name, command in group.items()]
        pairs = zip(entries[::2], [*entries[1::2], ""], strict=False)
        lines += [f"{title}:", *(f"{left:<{_COLUMN}}{right}".rstrip() for left, right in pairs)]
    return "\n".join(lines)


def spellings() -> dict[str, str]:
    """What the commands are called here, by what the project's texts call them."""
    names = {f"python -m {command.module}": f"facegen {name}" for name, command in COMMANDS.items()}
    script = "facegen/train.py"
    return {f"accelerate launch {script}": "facegen train", f"python {script}": "facegen train", **names}


def _take_launch(name: str, arguments: list[str]) -> str | None:
    """Takes ``--launch OPTIONS`` out of the arguments; None where it is not there."""
    from shards.command_line.cli import fail

    found = [position for position, word in enumerate(arguments) if word.partition("=")[0] == _LAUNCH]
    if not found:
        return None
    if name not in LAUNCHED:
        fail(f"facegen {name} runs in one process; only {' and '.join(LAUNCHED)} take {_LAUNCH}.")
    _, equals, options = arguments.pop(found[0]).partition("=")
    if not equals:
        if found[0] == len(arguments):
            fail(f'{_LAUNCH} needs the options of accelerate launch, such as {_LAUNCH} "--num_processes 2".')
        options = arguments.pop(found[0])
    return options


def _refuse(name: str) -> None:
    """Exits with code 2 and the nearest name; the modules' own names lead to their commands."""
    from shards.command_line.cli import fail, nearest

    modules = {command.module.rpartition(".")[2]: known for known, command in COMMANDS.items()}
    modules |= {command.module: known for known, command in COMMANDS.items()} | {known: known for known in COMMANDS}
    close = nearest(name, list(modules))
    fail(f"there is no command '{name}'; " + (f"did you mean '{modules[close]}'?" if close else "see facegen --help."))
