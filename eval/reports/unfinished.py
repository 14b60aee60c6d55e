"""The runs that a report has finished, kept beside it until it is complete, so that a rerun resumes behind them.

Each run is one file, named after all that decides its result: with another command, other weights or other data nothing
is reused. A file begins with the digest of the rest; a damaged one counts as absent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from eval.latent.origin import snapshot_identity
from eval.reports.output.embedded import content_of, figure_of
from eval.reports.registry import PARTS
from eval.reports.results import Figure, RunResult, Stage, to_json
from eval.stand_ins.stand_in import StandIn
from facegen import __version__
from facegen.model import Model
from shards.base.files import make_folder, write_bytes, writing_to

UNFINISHED = "unfinished"
"""Folder of these files, in the report's directory."""
_NUM_DRAWS = 64


@dataclass(frozen=True)
class FinishedRun:
    """Everything that a report shows of one run."""

    result: RunResult
    figures: dict[str, Figure]
    """Its pictures, by file name."""
    kept: dict[str, Any]
    """What parts keep of it for the comparison of all runs, by the part's name."""
    stages: list[Stage]


@dataclass(frozen=True)
class _Content:
    """The same, as the file holds it."""

    result: RunResult
    figures: dict[str, str]
    """Contents of the files in base64."""
    kept: dict[str, Any]
    stages: list[Stage]


def finished_file(folder: Path, settings: Mapping[str, Any], label: str, model: Model | StandIn, path: str) -> Path:
    """The file of a run.

    Args:
        folder: Where such files are kept: ``UNFINISHED`` in a report's directory, or a cache.
        settings: Everything that decides the results of all runs, as JSON.
        label: Name of the run in the report.
        model: Model of the run, or what stands in for one.
        path: The run as the command names it.
    """
    is_model = isinstance(model, Model)
    draws = model.sample_latents(_NUM_DRAWS).cpu().numpy().tobytes() if is_model and "sample" in model.can else b""
    key = {
        "version": __version__,
        "settings": settings,
        "run": [label, path, model.weights, model.step, model.images_seen, model.dataset_fingerprint],
        "snapshot": snapshot_identity(model) if is_model else model.identity,
        "sampler": [model.sampler, hashlib.sha256(draws).hexdigest()],
    }
    return folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def save_finished(path: Path, run: FinishedRun) -> None:
    """Writes the file of a run.

    Raises:
        UserError: Nothing can be written there.
    """
    figures = {name: base64.b64encode(content_of(figure)).decode() for name, figure in run.figures.items()}
    content = json.dumps(to_json(_Content(run.result, figures, run.kept, run.stages))).encode()
    make_folder(path.parent)
    with writing_to(path):
        write_bytes(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_finished(path: Path) -> FinishedRun | None:
    """Reads the file of a run; None if it is absent or damaged."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    read = _from_json(_Content, json.loads(content))
    if any(Path(name).name != name for name in read.figures):  # Each becomes a file of the report.
        return None
    figures = {name: figure_of(name, base64.b64decode(figure)) for name, figure in read.figures.items()}
    kept = {part: _from_json(_kept_by(part), content) for part, content in read.kept.items()}
    return FinishedRun(read.result, figures, kept, read.stages)


def _kept_by(part: str) -> type | None:
    comparison = PARTS[part].compare
    return comparison.kept if comparison else None


def _from_json(kind: Any, content: Any) -> Any:
    """Reverses ``to_json``, given the type of the value; arrays become float64."""
    if content is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**{name: _from_json(hint, content[name]) for name, hint in get_type_hints(kind).items()})
    if kind is np.ndarray:
        return np.array(content, np.float64)
    match get_origin(kind):
        case origin if origin is list:
            return [_from_json(get_args(kind)[0], item) for item in content]
        case origin if origin is dict:
            return {key: _from_json(get_args(kind)[1], item) for key, item in content.items()}
        case origin if origin is UnionType:
            return _from_json(get_args(kind)[0], content)  # An optional value: its type stands first.
    return content
