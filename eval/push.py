"""Shares a trained model on the Hugging Face Hub: ``python -m eval.push RUN USER/NAME [--report REPORT]``.

Also ``eval.push(...)`` from Python. ``facegen.load("hub:USER/NAME")`` loads it, as every command does that takes a run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.reports.results import read_report
from eval.sharing.model_card import FIGURES, find_measured, model_card
from facegen.model import load
from shards.base.errors import UserError
from shards.base.files import write_bytes, writing_to
from shards.base.hub_address import REPOSITORY
from shards.command_line import cli
from shards.command_line.keywords import from_keywords
from shards.downloads.hub import upload

_REPLACED = (f"{FIGURES}/*", "samplers/*")


@dataclass(kw_only=True)
class PushConfig:
    """Options of a push."""

    run: str
    """Run directory (its newest snapshot), snapshot directory or repository; RUN:NAME names a sampler of it, too, which
    the card then shows."""
    repository: str
    """USER/NAME on the Hub; it is made if there is none."""
    report: str | None = None
    """Folder of a report on this run, for the numbers and pictures of the model card."""
    license: str | None = None
    """License of the weights, as the Hub calls it, such as cc-by-nc-4.0; that of the faces may limit it."""
    private: bool = False
    """A new repository is private."""
    out: str | None = None
    """Write the repository into this folder, and push nothing."""

    def __post_init__(self) -> None:
        """Rejects a name that no repository has."""
        if not REPOSITORY.fullmatch(self.repository):
            raise ValueError(f"the repository must be USER/NAME, not {self.repository}.")


def push(run: str | os.PathLike[str], repository: str, **options: str | bool | None) -> str:
    """Pushes a trained model to the Hub, or writes the repository into a folder, as ``python -m eval.push`` does.

    Args:
        run: As ``facegen.load`` takes it.
        repository: ``USER/NAME``.
        options: The other options of the command line: ``report``, ``license``, ``private``, ``out``.

    Returns:
        What ``facegen.load`` loads: ``hub:USER/NAME@COMMIT``, or the folder.

    Raises:
        UserError: No such model, a report of another one, no token, no permission, or no answer.
    """
    return _push(from_keywords(PushConfig, {"run": os.fspath(run), "repository": repository, **options}))


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        PushConfig,
        prog="python -m eval.push",
        description="Shares a trained model on the Hugging Face Hub, with a model card made from its report.",
        positional=["run", "repository"],
        args=args,
    )
    place = _push(config)
    if config.license is None:
        print("note: without --license the card names none, and others may not use the model.", file=sys.stderr)
    print(f"load it with: facegen.load({place!r})")


def _push(config: PushConfig) -> str:
    if config.out is not None:
        _write(config, Path(config.out))
        return config.out
    with tempfile.TemporaryDirectory(prefix="facegen-push-") as folder:
        root = Path(folder) / "repository"
        title = _write(config, root)
        files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
        return str(upload(config.repository, "model", files, private=config.private, message=title, replaced=_REPLACED))


def _write(config: PushConfig, folder: Path) -> str:
    """Writes the repository and returns a title for its commit."""
    model = load(config.run)
    measured, figures = None, Path()
    if config.report is not None:
        measured = find_measured(read_report(Path(config.report) / "report.json"), model)
        figures = Path(config.report) / FIGURES
        missing = [picture.file for picture in measured.pictures if not (figures / picture.file).is_file()]
        if missing:
            raise UserError(f"{figures} lacks {missing[0]}; make the report again.")
    model.save_pretrained(folder)
    with writing_to(f"to {folder}"):
        shutil.rmtree(folder / FIGURES, ignore_errors=True)
        (folder / FIGURES).mkdir()
        for picture in measured.pictures if measured else ():
            shutil.copyfile(figures / picture.file, folder / FIGURES / picture.file)
        card = model_card(model, config.repository, config.license, measured)
        write_bytes(folder / "README.md", card.encode())
    return f"{model.name} after {model.images_seen:,} images"


if __name__ == "__main__":
    cli.run(main)
