"""Fitted samplers on disk: ``RUN/samplers/NAME/`` with the tensors and what they were fitted on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facegen.runs.checkpoint import MARKER, damage, load_module, save_module, write_complete
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Sampler
from shards.base.errors import UserError
from shards.base.plain_files import is_plain_name

DIRECTORY = "samplers"
DESCRIPTION = "sampler.json"
TENSORS = "sampler.safetensors"


@dataclass(frozen=True)
class SamplerDescription:
    """What ``sampler.json`` says."""

    sampler: str
    """Name in the registry."""
    config: dict[str, Any]
    """The sampler's own options."""
    latent_size: int
    images_seen: int
    """Of the snapshot whose encoder made the latents."""
    weights: str
    """``ema`` or ``raw``."""
    weights_sha256: str
    """Checksum of the snapshot's weights file."""
    dataset_fingerprint: str
    """Of the data that were encoded."""
    split: str
    num_images: int
    seed: int
    versions: dict[str, str]


def check_name(name: str) -> None:
    """Checks that a sampler's name is that of a folder inside ``RUN/samplers``.

    Raises:
        UserError: It could lead elsewhere, such as ``../checkpoints``.
    """
    if not is_plain_name(name):
        raise UserError(
            f"a sampler cannot be called {name!r}; use letters, digits, '.', '_' and '-', and no leading dot."
        )


def weights_sha256(snapshot: Path, weights: str) -> str:
    """Checksum of a snapshot's weights file, as its marker has it."""
    return json.loads((snapshot / MARKER).read_text())[f"{weights}.safetensors"]


def save_sampler(run: Path, name: str, sampler: Sampler, description: SamplerDescription) -> Path:
    """Writes ``run/samplers/name``, all or nothing; a sampler of that name is replaced.

    Returns:
        The directory.

    Raises:
        UserError: A name that is not allowed, or something else lies there.
    """

    def write(directory: Path) -> None:
        (directory / DESCRIPTION).write_text(json.dumps(asdict(description), indent=1) + "\n")
        save_module(sampler, directory / TENSORS)

    check_name(name)
    directory = run / DIRECTORY / name
    write_complete(directory, write)
    return directory


def load_sampler(run: Path, name: str, snapshot: Path, weights: str) -> Sampler:
    """Loads a sampler for the weights of a snapshot.

    Raises:
        UserError: A name that is not allowed, none of that name, a damaged one, or one that was fitted to the latents
            of other weights.
    """
    check_name(name)
    directory = run / DIRECTORY / name
    if not directory.is_dir():
        there = ", ".join(sorted(path.name for path in directory.parent.glob("[!.]*"))) or "none"
        raise UserError(
            f"{run} has no sampler {name} (there: {there}); fit one with python -m facegen.fit_sampler, "
            f"which knows {', '.join(SAMPLERS)}."
        )
    problem = damage(directory)
    if problem:
        raise UserError(f"{directory} is damaged: {problem}; fit the sampler again.")
    try:
        description = SamplerDescription(**json.loads((directory / DESCRIPTION).read_text()))
        entry = SAMPLERS[description.sampler]
        sampler = entry.sampler_class(entry.config_class(**description.config), description.latent_size)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{directory / DESCRIPTION} cannot be read: {error}; fit the sampler again.") from None
    if description.weights_sha256 != weights_sha256(snapshot, weights):
        raise UserError(
            f"the sampler {name} was fitted to {description.weights} weights at {description.images_seen:,} images, "
            f"not to the {weights} weights of {snapshot}; fit it again, or load the snapshot it was fitted to."
        )
    load_module(sampler, directory / TENSORS)
    return sampler.eval().requires_grad_(False)
