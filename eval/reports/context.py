"""What a report measures on, and what all its runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from eval.features.feature_set import FeatureSets
from eval.features.spaces import FeatureSpace
from eval.latent.faces import Faces, even_rows, read_faces
from shards.dataset.dataset import Dataset

NUM_FACES = 12
"""Held-out faces beside their reconstructions, spread evenly over the split."""


@dataclass(frozen=True)
class Protocol:
    """What the numbers of every run are measured on, the same for all of them."""

    dataset: Dataset
    split: str
    num_images: int
    num_samples: int
    batch_size: int
    seed: int
    num_train: int = 10_000
    """Training images, the first ones, that components, attributes and nearest neighbors come from."""


@dataclass(frozen=True)
class ReportContext:
    """What all runs of a report share."""

    protocol: Protocol
    device: torch.device
    spaces: Sequence[FeatureSpace] = ()
    """EfficientNet-Lite0's first; none where no part looks at features."""
    absent_spaces: Mapping[str, str] = field(default_factory=dict)
    """Why a feature space is not there, by its name."""
    split_features: FeatureSets | None = None
    """Of the evaluated images, as many as the parts need; None where none does."""
    train_features: FeatureSets | None = None
    """Of the first training images, in the first space."""
    prepared: Mapping[str, Any] = field(default_factory=dict)
    """What each part has prepared for all runs, by the part's name; on the main process only."""

    def faces(self, model: Any, num: int = NUM_FACES) -> Faces:
        """Evaluated faces, spread evenly so that one person's many pictures do not fill a row."""
        protocol = self.protocol
        return read_faces(model, protocol.dataset, protocol.split, even_rows(protocol.num_images, num))
