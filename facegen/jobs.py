"""Launch files for accelerate, Slurm, Kubernetes and Ray: ``python -m facegen.jobs list``, ``copy slurm .``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facegen.processes.launch_files import FOLDER, launch_files
from shards.base.errors import UserError
from shards.base.files import output_folder, write_bytes, writing_to
from shards.command_line import cli


@dataclass
class ListConfig:
    """Lists the launch files."""


@dataclass
class CopyConfig:
    """Copies launch files, to change them."""

    name: str
    """A folder of launch files, such as slurm, or one file of it, such as slurm/train.sbatch."""
    folder: Path
    """Where to copy the files."""


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    name, config = cli.parse_command(
        {"list": ListConfig, "copy": CopyConfig},
        prog="python -m facegen.jobs",
        description="Launch files for accelerate, Slurm, Kubernetes and Ray; the page on deployment explains them.",
        dest="command",
        positional=lambda command: ["name", "folder"] if command == "copy" else [],
        args=args,
    )
    if name == "list":
        print("\n".join(map(str, launch_files())))
    else:
        for path in copy(config.name, config.folder):
            print(path)


def copy(name: str, folder: Path) -> list[Path]:
    """Copies a launch file, or a folder of them.

    Args:
        name: As ``list`` names it, or the folder's name.
        folder: Made where there is none.

    Returns:
        The copies.

    Raises:
        UserError: No such launch file, or another file in a copy's place.
    """
    chosen = [path for path in launch_files() if name in (str(path), path.parts[0])]
    if not chosen:
        names = sorted({path.parts[0] for path in launch_files()} | set(map(str, launch_files())))
        close = cli.nearest(name, names)
        raise UserError(f"there is no launch file '{name}'; " + (f"did you mean '{close}'?" if close else "list them."))
    output_folder(folder, "give another folder")
    copies = {folder / path.name: (FOLDER / path).read_bytes() for path in chosen}
    for path, content in copies.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == content):
            raise UserError(f"{path} exists and differs from the launch file; give another folder.")
    with writing_to(folder):
        for path, content in copies.items():
            write_bytes(path, content)
    return list(copies)


if __name__ == "__main__":
    cli.run(main)
