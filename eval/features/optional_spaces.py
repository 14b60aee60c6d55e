"""Feature spaces beside the one that is always there: whether each can be had, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.features.face_space import face_weights, load_face
from eval.features.inception_weights import find_inception_weights
from eval.features.spaces import FeatureSpace, load_inception
from eval.features.transformers import CLIP, DINOV2
from shards.base.errors import UserError
from shards.packing.framing import Framing


@dataclass(frozen=True)
class OptionalSpace:
    """A space that needs a choice.

    Attributes:
        find: The file of weights, given ``--fid_weights``; or None and the reason.
        load: Loads the space from the file, for images of a framing.
    """

    find: Callable[[str], tuple[Path | None, str]]
    load: Callable[[Path, torch.device, Framing | None], FeatureSpace]


def _found(find: Callable[[], Path]) -> Callable[[str], tuple[Path | None, str]]:
    """Turns what is raised into a reason."""

    def find_or_reason(_: str) -> tuple[Path | None, str]:
        try:
            return find(), ""
        except UserError as error:
            return None, str(error)

    return find_or_reason


OPTIONAL_SPACES = {
    "inception": OptionalSpace(
        lambda fid_weights: find_inception_weights(fid_weights), lambda path, device, _: load_inception(path, device)
    ),
    "face": OptionalSpace(_found(face_weights), load_face),
    "dinov2": OptionalSpace(_found(DINOV2.find), lambda path, device, _: DINOV2.load(path, device)),
    "clip": OptionalSpace(_found(CLIP.find), lambda path, device, _: CLIP.load(path, device)),
}
"""By name, in the order of ``SPACES``."""
