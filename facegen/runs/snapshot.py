"""Snapshots: the weights and the description that inference needs, apart from the training state.

A repository, as the Hub expects it, is the other form of one: ``config.json`` and ``model.safetensors``.
"""

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
from facegen.runs.config_file import CONFIG_FILE
from shards.base.errors import UserError
from shards.base.hub_address import hub_address
from shards.base.records import Count, as_record, read_json, read_record
from shards.dataset.manifest import Side
from shards.dataset.tar import sha256_file
from shards.downloads.hub import download
from shards.packing.framing import Framing

SNAPSHOTS = "snapshots"
BEST = "best"
DESCRIPTION = "snapshot.json"
REPOSITORY_DESCRIPTION = "config.json"
REPOSITORY_WEIGHTS = "model.safetensors"
BESIDE_THE_WEIGHTS = ("latent_usage.safetensors", "metrics.jsonl")
"""Files of a run that a repository holds, too."""
SAMPLERS = "samplers"
"""Folder of the samplers that were fitted to a run."""
_READ_FROM_THE_HUB = (
    REPOSITORY_DESCRIPTION,
    REPOSITORY_WEIGHTS,
    *BESIDE_THE_WEIGHTS,
    *(f"{SAMPLERS}/*/{name}" for name in ("*.json", "*.safetensors", MARKER)),
)
"""Descriptions and tensors; never code, and nothing pickled."""


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

    Args:
        path: A run directory, a snapshot directory, a repository, or the address of one on the Hub.

    Raises:
        UserError: No snapshot and no run with one, a damaged snapshot, or a repository that cannot be downloaded.
    """
    address = None if path.exists() else hub_address(path.as_posix())
    if address:
        path = download(address, "model", _READ_FROM_THE_HUB)
        if not is_repository(path):
            raise UserError(f"{address} has no {REPOSITORY_DESCRIPTION} and {REPOSITORY_WEIGHTS}; give another one.")
    if is_repository(path):
        return path
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
    return read_record(description_file(snapshot), Description, "give another snapshot", file_formats.SNAPSHOT)


def description_file(snapshot: Path) -> Path:
    """The file that describes a snapshot."""
    return snapshot / (REPOSITORY_DESCRIPTION if is_repository(snapshot) else DESCRIPTION)


def weights_file(snapshot: Path, weights: str) -> Path:
    """The file of a snapshot's ``ema`` or ``raw`` weights; a repository has one of them."""
    return snapshot / (REPOSITORY_WEIGHTS if is_repository(snapshot) else f"{weights}.safetensors")


def is_repository(path: Path) -> bool:
    """Whether a folder is a repository, as the Hub expects it."""
    return (path / REPOSITORY_DESCRIPTION).is_file() and (path / REPOSITORY_WEIGHTS).is_file()


def run_of(snapshot: Path) -> Path | None:
    """The folder with a run's other files: its directory, or the repository; None for a snapshot outside its run."""
    if is_repository(snapshot):
        return snapshot
    run = snapshot.parent.parent
    return run if (run / CONFIG_FILE).is_file() else None


def weights_sha256(snapshot: Path, weights: str) -> str:
    """Checksum of a snapshot's weights file, from its marker where it has one."""
    if is_repository(snapshot):
        return sha256_file(snapshot / REPOSITORY_WEIGHTS)
    path, advice = snapshot / MARKER, "give another snapshot"
    checksums = as_record(read_json(path, advice), dict[str, str], path, advice)
    if f"{weights}.safetensors" not in checksums:
        raise UserError(f"{path} has no checksum of the {weights} weights; {advice}.")
    return checksums[f"{weights}.safetensors"]


def _write(root: Path, description: Description, modules: Mapping[str, nn.Module]) -> Path:
    described = replace(description, weights=tuple(modules))  # type: ignore[arg-type]

    def write(directory: Path) -> None:
        content = file_formats.SNAPSHOT.stamp(asdict(described))
        (directory / DESCRIPTION).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for weights, module in modules.items():
            save_module(module, directory / f"{weights}.safetensors")

    final = root / directory_name(description.images_seen)
    write_complete(final, write)
    return final


def _watches_a_metric(snapshot: Path) -> bool:
    # Absent in the oldest snapshots; off where a run was resumed without early stopping.
    return read_description(snapshot).config.get("early_stop", {}).get("metric") is not None
