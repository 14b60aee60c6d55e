"""Fitted samplers on disk: ``RUN/samplers/NAME/`` with the tensors and a description of the fit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facegen.runs.checkpoint import build_described, damage, load_module, save_module, write_complete
from facegen.runs.snapshot import SAMPLERS as DIRECTORY
from facegen.runs.snapshot import weights_sha256
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Sampler
from shards.base.errors import UserError, shown
from shards.base.files import writing_to
from shards.base.formats import Format
from shards.base.plain_files import is_plain_name
from shards.base.records import Count, as_record, read_record

DESCRIPTION = "sampler.json"
TENSORS = "sampler.safetensors"
SAMPLER_FORMAT = Format("fitted sampler", version=1, first=1)


@dataclass(frozen=True)
class SamplerDescription:
    """The content of ``sampler.json``."""

    sampler: str
    """Name in the registry."""
    config: dict[str, Any]
    """The sampler's own options."""
    latent_size: Count
    images_seen: Count
    """Training images of the snapshot whose encoder made the latents."""
    weights: str
    """``ema`` or ``raw``."""
    weights_sha256: str
    """Checksum of the snapshot's weights file."""
    dataset_fingerprint: str
    """Fingerprint of the data set that was encoded."""
    split: str
    num_images: Count
    seed: int
    versions: dict[str, str]


def check_name(name: str) -> None:
    """Checks that a sampler's name is a plain folder name inside ``RUN/samplers``.

    Raises:
        UserError: It leads elsewhere, such as ``../checkpoints``.
    """
    if not is_plain_name(name):
        raise UserError(f"{name!r} is not a sampler's name; use letters, digits, '.', '_' and '-', and no leading dot.")


def save_sampler(run: Path, name: str, sampler: Sampler, description: SamplerDescription) -> Path:
    """Writes ``run/samplers/name``, all or nothing; replaces a sampler of that name.

    Returns:
        The directory.

    Raises:
        UserError: A name that is not allowed, a folder there that is not a sampler, or a disk that refuses.
    """

    def write(directory: Path) -> None:
        (directory / DESCRIPTION).write_text(
            json.dumps(SAMPLER_FORMAT.stamp(asdict(description)), indent=1) + "\n", encoding="utf-8"
        )
        save_module(sampler, directory / TENSORS)

    check_name(name)
    directory = run / DIRECTORY / name
    with writing_to(directory):
        write_complete(directory, write)
    return directory


def fitted_samplers(run: Path, snapshot: Path, weights: str) -> list[str]:
    """Names of the undamaged samplers of a run that were fitted to the weights of a snapshot, sorted."""
    wanted, found = weights_sha256(snapshot, weights), []
    for directory in sorted((run / DIRECTORY).glob("[!.]*")):
        try:
            description = read_record(directory / DESCRIPTION, SamplerDescription, "fit it again", SAMPLER_FORMAT)
        except UserError:
            continue
        if description.weights_sha256 == wanted and is_plain_name(directory.name) and not damage(directory):
            found.append(directory.name)
    return found


def load_sampler(run: Path, name: str, snapshot: Path, weights: str) -> Sampler:
    """Loads a sampler for the weights of a snapshot.

    Raises:
        UserError: A name that is not allowed or not there, a damaged or newer sampler, or one that was fitted to the
            latents of other weights.
    """
    check_name(name)
    directory = run / DIRECTORY / name
    if not directory.is_dir():
        there = ", ".join(sorted(path.name for path in directory.parent.glob("[!.]*"))) or "none"
        raise UserError(
            f"{run} has no sampler {name} (it has: {there}); fit one with python -m facegen.fit_sampler, "
            f"of {', '.join(SAMPLERS)}."
        )
    problem = damage(directory)
    if problem:
        raise UserError(f"{directory} is damaged: {problem}; fit the sampler again.")
    path, advice = directory / DESCRIPTION, "fit the sampler again"
    description = read_record(path, SamplerDescription, advice, SAMPLER_FORMAT)
    try:
        entry = SAMPLERS[description.sampler]
        config = as_record(description.config, entry.config_class, path, advice)
    except KeyError:
        raise UserError(f"{path} names no sampler ({shown(description.sampler)}); {advice}.") from None
    sampler = build_described(lambda: entry.sampler_class(config, description.latent_size), path, directory / TENSORS)
    if description.weights_sha256 != weights_sha256(snapshot, weights):
        raise UserError(
            f"the sampler {name} was fitted to {description.weights} weights at {description.images_seen:,} images, "
            f"not to the {weights} weights of {snapshot}; fit it again, or load the snapshot that it was fitted to."
        )
    load_module(sampler, directory / TENSORS)
    return sampler.eval().requires_grad_(False)
