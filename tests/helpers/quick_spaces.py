"""Feature spaces that cost nothing, in the place of networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from eval.features.optional_spaces import OPTIONAL_SPACES, OptionalSpace
from eval.features.spaces import FeatureSpace
from eval.reports import prepare


def coarse_pixels(name: str, device: torch.device) -> FeatureSpace:
    """A space in which the same image is the same point and another is not."""
    return FeatureSpace(
        name=name,
        dim=48,
        sha256="coarse",
        preprocessing="means of 4x4 pixels",
        device=device,
        extract=lambda images: adaptive_avg_pool2d(images.permute(0, 3, 1, 2).float(), 4).flatten(1),
    )


def use_quick_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts coarse pixels in the place of EfficientNet-Lite0 and of the face recognizer."""
    face = OptionalSpace(lambda _: (Path("weights"), ""), lambda path, device, framing: coarse_pixels("face", device))
    monkeypatch.setitem(OPTIONAL_SPACES, "face", face)
    monkeypatch.setattr(prepare, "load_efflite0", lambda device: coarse_pixels("efflite0", device))
