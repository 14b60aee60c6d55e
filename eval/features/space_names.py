"""Names of the feature spaces and of their distances, for options that are read before anything slow is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpaceNames:
    """Names of a feature space and of its distances, also if its weights are absent."""

    name: str
    """Key in files and in ``report.json``."""
    label: str
    """Name in tables."""
    frechet: str
    """Name of the Fréchet distance."""
    kernel: str
    """Name of the kernel distance."""
    frechet_format: str = ".2f"
    """How tables show the Fréchet distance."""
    kernel_format: str = ".3g"
    """How tables show the kernel distance."""


SPACES = (
    SpaceNames("efflite0", "EffLite0", "FD-EffLite0", "KD-EffLite0", kernel_format=".4f"),
    SpaceNames("inception", "Inception", "FID", "KID"),
    SpaceNames("face", "Face", "FD-Face", "KD-Face", ".4f", ".2e"),
    SpaceNames("dinov2", "DINOv2", "FD-DINOv2", "KD-DINOv2"),
    SpaceNames("clip", "CLIP", "FD-CLIP", "KD-CLIP"),
)
"""The first one is always available."""
Space = Literal["efflite0", "inception", "face", "dinov2", "clip"]
NOT_CHOSEN = "not chosen with --spaces"
"""The reason for an absent space that was not chosen."""


def frechet_name(space: str) -> str:
    """Name of the Fréchet distance in the space with this key."""
    return next(names.frechet for names in SPACES if names.name == space)
