"""A trained model as a repository of the Hub: ``config.json``, ``model.safetensors``, and the samplers fitted to it.

``config.json`` is the snapshot's description without what only means something where it was trained: folders of that
machine, and the classes of labels, which may be the names of people.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from facegen.runs import file_formats
from facegen.runs.snapshot import (
    BESIDE_THE_WEIGHTS,
    REPOSITORY_DESCRIPTION,
    REPOSITORY_WEIGHTS,
    SAMPLERS,
    Description,
    run_of,
    weights_file,
)
from shards.base.errors import UserError
from shards.base.files import output_folder, replacing, write_bytes, writing_to
from shards.base.places import BETWEEN_PARTS


def write_repository(
    folder: Path, description: Description, snapshot: Path, weights: str, samplers: Sequence[str]
) -> Path:
    """Writes a repository; ``config.json`` comes last, and without it nothing is loaded.

    Args:
        folder: New, empty, or with an earlier repository, which is replaced.
        description: Of the snapshot.
        snapshot: The snapshot.
        weights: Which of its weights: ``ema`` or ``raw``.
        samplers: Names of the samplers of its run that were fitted to these weights.

    Returns:
        The folder.

    Raises:
        UserError: Other files are there, or it cannot be written.
    """
    ours = (REPOSITORY_WEIGHTS, REPOSITORY_DESCRIPTION)
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).is_file() for name in ours):
        raise UserError(f"{folder} holds other files; give a new or empty folder.")
    if folder.resolve() == snapshot.resolve():
        raise UserError(f"{folder} is the model itself; give another folder.")
    output_folder(folder)
    run = run_of(snapshot)
    with writing_to(f"to {folder}"):
        (folder / REPOSITORY_DESCRIPTION).unlink(missing_ok=True)
        with replacing(folder / REPOSITORY_WEIGHTS) as temporary:
            shutil.copyfile(weights_file(snapshot, weights), temporary)
        shutil.rmtree(folder / SAMPLERS, ignore_errors=True)
        for name in samplers:
            assert run is not None
            shutil.copytree(run / SAMPLERS / name, folder / SAMPLERS / name)
        for name in BESIDE_THE_WEIGHTS:
            (folder / name).unlink(missing_ok=True)
            if run and (run / name).is_file():
                shutil.copyfile(run / name, folder / name)
        content = file_formats.SNAPSHOT.stamp(asdict(_shareable(description, weights)))
        write_bytes(folder / REPOSITORY_DESCRIPTION, (json.dumps(content, indent=1) + "\n").encode())
    return folder


def _shareable(description: Description, weights: str) -> Description:
    """The description of one of its weights, without folders of this machine and without classes of labels."""
    labels = {name: label for name, label in description.label_fields.items() if label.get("kind") != "class"}
    config = _without_folders(description.config)
    return replace(description, config=config, label_fields=labels, weights=(weights,))  # type: ignore[arg-type]


def _without_folders(value: Any) -> Any:
    """Nested options in which only the last part of each absolute path is left."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    parts = value.split(BETWEEN_PARTS)
    return BETWEEN_PARTS.join(Path(part).name if Path(part).is_absolute() else part for part in parts)
