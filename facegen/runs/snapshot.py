"""Snapshots: the weights and the description that inference needs, apart from the training state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Len
from torch import nn

from facegen.runs import file_formats
from facegen.runs.checkpoint import (
    MARKER,
    damage,
    delete,
    directory_name,
    newest_complete,
    prune,
    save_module,
    write_complete,
)
from shards.base.errors import UserError
from shards.base.records import Count, as_record, read_json, read_record
from shards.dataset.manifest import Side
from shards.packing.framing import Framing

SNAPSHOTS = "snapshots"
BEST = "best"
DESCRIPTION = "snapshot.json"


@dataclass(frozen=True)
class Description:
    """The content of ``snapshot.json``."""

    name: str
    """The run's name."""
    family: str
    config: dict[str, Any]
    """The full resolved training config."""
    image_shape: Annotated[list[Side], Len(3, 3)]
    """Channels, height, width."""
    label_fields: dict[str, Any]
    """Label schema of the training data."""
    dataset_name: str
    dataset_fingerprint: str
    images_seen: Count
    step: Count
    epoch: float
    versions: dict[str, str]
    """Versions of facegen and torch that wrote it."""
    framing: Framing | None = None
    """How the training data frame faces; None where that is not known, and in snapshots before version 4."""
    weights: tuple[Literal["ema", "raw"], ...] = ()
    """Which of ``ema`` and ``raw`` are there, the better one first."""


def save_snapshot(run: Path, description: Description, modules: Mapping[str, nn.Module], keep: int) -> None:
    """Writes ``run/snapshots/images_N`` with one safetensors file per entry of ``modules`` and prunes old ones."""
    _write(run / SNAPSHOTS, description, modules)
    prune(run / SNAPSHOTS, keep)


def save_best(run: Path, description: Description, modules: Mapping[str, nn.Module]) -> None:
    """Writes ``run/best/images_N``, the state of the best validation, and deletes all but the one before.

    Another process may be opening that one.
    """
    written = _write(run / BEST, description, modules)
    others = [path for path in sorted((run / BEST).glob("images_*")) if path != written]
    before = [path for path in others if path.name < written.name][-1:]
    delete(run / BEST, [path for path in others if path not in before])


def find_snapshot(path: Path) -> Path:
    """The snapshot directory at ``path``: the path itself or, in a run directory, the snapshot to use.

    That is the newest complete one, or the best one if the run watches a metric (``early_stop.metric``).

    Raises:
        UserError: No snapshot and no run with one, or a damaged snapshot.
    """
    if (path / DESCRIPTION).is_file():
        problem = damage(path)
        if problem:
            raise UserError(f"{path} is damaged: {problem}; give another snapshot.")
        return path
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give a run directory or a snapshot directory.")
    newest, best = newest_complete(path / SNAPSHOTS), newest_complete(path / BEST)
    if best and (newest is None or _watches_a_metric(newest)):
        return best
    if newest is None:
        raise UserError(
            f"{path} has no complete snapshot; train longer, or give a run directory that facegen/train.py made."
        )
    return newest


def read_description(snapshot: Path) -> Description:
    """Reads ``snapshot.json``, an older version as this one would have written it.

    Raises:
        UserError: A damaged file, or a newer version.
    """
    return read_record(snapshot / DESCRIPTION, Description, "give another snapshot", file_formats.SNAPSHOT)


def weights_sha256(snapshot: Path, weights: str) -> str:
    """Checksum of a snapshot's weights file, from its marker."""
    path, advice = snapshot / MARKER, "give another snapshot"
    checksums = as_record(read_json(path, advice), dict[str, str], path, advice)
    if f"{weights}.safetensors" not in checksums:
        raise UserError(f"{path} has no checksum of the {weights} weights; {advice}.")
    return checksums[f"{weights}.safetensors"]


def _write(root: Path, description: Description, modules: Mapping[str, nn.Module]) -> Path:
    described = replace(description, weights=tuple(modules))  # type: ignore[arg-type]

    def write(directory: Path) -> None:
        content = file_formats.SNAPSHOT.stamp(asdict(described))
        (directory / DESCRIPTION).write_text(json.dumps(content, indent=1) + "\n")
        for weights, module in modules.items():
            save_module(module, directory / f"{weights}.safetensors")

    final = root / directory_name(description.images_seen)
    write_complete(final, write)
    return final


def _watches_a_metric(snapshot: Path) -> bool:
    # Absent in the oldest snapshots; off where a run was resumed without early stopping.
    return read_description(snapshot).config.get("early_stop", {}).get("metric") is not None
