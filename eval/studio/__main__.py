"""The studio: ``python -m eval.studio RUN [RUN ...] --data DIR``."""

from __future__ import annotations

import getpass
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from eval.studio.options import StudioConfig
from shards.command_line import cli
from shards.command_line.typos import refuse_typos

if __name__ == "__main__":
    refuse_typos(StudioConfig, sys.argv[1:])

import torch

from eval.studio.studio import Studio
from shards.base.errors import UserError
from shards.serving.server import LOOPBACK, listen, require_web_packages, run_app

PASSWORD_VARIABLE = "FACEGEN_STUDIO_PASSWORD"
MIN_PASSWORD = 8


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        StudioConfig,
        prog="python -m eval.studio",
        description="Opens a page to make, edit, morph and compare faces of trained models.",
        positional=["runs"],
        args=args,
    )
    require_web_packages("the studio")
    from eval.studio.server.app import make_app

    password = ask_password() if config.share else None
    report = None if config.report is None else read_report(Path(config.report))
    listening = listen("0.0.0.0" if config.share else LOOPBACK, config.port)
    # One core for each picture: several are decoded at a time where there are more cores.
    torch.set_num_threads(1)
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu"
    studio = Studio(
        config.runs,
        config.data,
        attributes=config.attributes,
        align=config.align,
        align_margin=config.align_margin,
        device=device,
    )
    links = {} if config.tensorboard is None else {"TensorBoard": config.tensorboard}
    app = make_app(studio, links=links, report=report, password=password)
    for note in studio.notes:
        print(note)
    port = listening.getsockname()[1]
    address = f"http://{LOOPBACK}:{port}/"
    elsewhere = f", and at port {port} of this machine's other addresses" if config.share else ""
    print(f"The studio is at {address}{elsewhere}. Stop it with Ctrl-C.", flush=True)
    if config.open_browser and has_screen():
        webbrowser.open(address)
    run_app(app, listening)


def ask_password() -> str:
    """The password of a shared studio, from the environment or the terminal.

    Raises:
        UserError: There is none, or it is too short.
    """
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise UserError(f"--share needs a password: start the studio in a terminal, or set {PASSWORD_VARIABLE}.")
        password = getpass.getpass("Password for everybody who opens the studio: ")
    if len(password) < MIN_PASSWORD:
        raise UserError(f"the password must have at least {MIN_PASSWORD} characters.")
    return password


def read_report(path: Path) -> bytes:
    """The content of a report, given its file or directory.

    Raises:
        UserError: The file cannot be read.
    """
    file = path / "report.html" if path.is_dir() else path
    try:
        return file.read_bytes()
    except OSError as error:
        advice = "make one with: python -m eval.report"
        raise UserError(f"report {file} cannot be read ({error.strerror}); {advice}") from None


def has_screen() -> bool:
    """Whether a browser would open a window rather than run in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    cli.run(main)
