"""The launch files of ``jobs/``: for accelerate, Slurm, Kubernetes and Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = next(path for path in (_PACKAGE / "launch_files", _PACKAGE.parent / "jobs") if path.is_dir())
"""In an installed wheel inside the package, in a checkout beside it."""


def launch_files(below: str = "") -> Iterator[Path]:
    """Paths of the files, or of those in one folder, relative to ``FOLDER``."""
    yield from sorted(
        path.relative_to(FOLDER)
        for path in (FOLDER / below).rglob("*")
        if path.is_file() and path.parent != FOLDER and "__pycache__" not in path.parts
    )


def accelerate_config(name: str) -> str:
    """What to give ``accelerate launch --config_file``: a path as it is, or the shipped file of that name."""
    shipped = FOLDER / "accelerate" / f"{name}.yaml"
    return str(shipped) if not Path(name).exists() and shipped.is_file() else name
