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
    reference: str | None = None
    """A split, whole, or ``all`` of them, which distances are measured from; the evaluated images when None."""

    @property
    def reference_splits(self) -> tuple[str, ...]:
        """Splits that hold what distances are measured from."""
        if self.reference is None:
            return (self.split,)
        return self.dataset.splits if self.reference == "all" else (self.reference,)

    @property
    def refers_to_training(self) -> bool:
        """Whether distances were asked to be measured from training images, which runs may repeat."""
        return self.reference is not None and "train" in self.reference_splits

    @property
    def real_split(self) -> str | None:
        """Split of real faces outside the reference, the training or the evaluated one; None where both are inside."""
        return next((split for split in ("train", self.split) if split not in self.reference_splits), None)


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
    other_reference: FeatureSets | None = None
    """Of the reference of distances, where it is not the evaluated images."""
    prepared: Mapping[str, Any] = field(default_factory=dict)
    """What each part has prepared for all runs, by the part's name; on the main process only."""

    @property
    def reference_features(self) -> FeatureSets:
        """Of the images that distances are measured from."""
        features = self.other_reference or self.split_features
        assert features is not None, "a part that measures distances needs them"
        return features

    def faces(self, model: Any, num: int = NUM_FACES) -> Faces:
        """Evaluated faces, spread evenly so that one person's many pictures do not fill a row."""
        protocol = self.protocol
        return read_faces(model, protocol.dataset, protocol.split, even_rows(protocol.num_images, num))
