"""Networks of a snapshot, rebuilt from its description."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facegen.families import FAMILIES, Family, build, options_from_dict
from facegen.networks.conv_config import ImageShape
from facegen.runs.checkpoint import build_described, load_module
from facegen.runs.snapshot import Description, description_file, read_description, weights_file
from shards.base.errors import UserError, shown


def load_family(
    snapshot: Path, weights: Literal["ema", "raw"] | None = None
) -> tuple[Family, Description, Literal["ema", "raw"]]:
    """A trained family on the CPU, its description, and which of its weights it has.

    Args:
        snapshot: A snapshot directory.
        weights: The moving average (``ema``) or the trained weights (``raw``); None takes the better one.

    Raises:
        UserError: A snapshot that is damaged, lacks the weights, or describes an unknown family.
    """
    description = read_description(snapshot)
    chosen = weights or next(iter(description.weights), "raw")
    if chosen not in description.weights:
        raise UserError(f"{snapshot} has no {chosen} weights; it has {' and '.join(description.weights)}.")
    source, file = description_file(snapshot), weights_file(snapshot, chosen)
    if description.family not in FAMILIES:
        raise UserError(f"{source}: there is no family {shown(description.family)}; give a model of another family.")
    try:
        config = options_from_dict(description.family, description.config.get("model"))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    shape = ImageShape(*description.image_shape)
    family = build_described(lambda: build(description.family, config, shape), source, file)
    load_module(family, file)
    return family, description, chosen
