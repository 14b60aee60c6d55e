"""Features of a set of images: their sums for Fréchet distances, and some of the features for kernel distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from eval.features.row_bank import MAX_FEATURES, RowBank
from eval.features.spaces import FeatureSpace
from eval.metrics.frechet import FeatureStatistics


@dataclass
class FeatureSet:
    """Features of one set of images in one space."""

    statistics: FeatureStatistics
    bank: RowBank

    @classmethod
    def empty(cls, dim: int) -> FeatureSet:
        """A set without images."""
        return cls(FeatureStatistics.empty(dim), RowBank(MAX_FEATURES))

    def update(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Adds the features (N, d) of rows (N,)."""
        self.statistics.update(features)
        self.bank.update(rows, features)

    def merge(self, other: FeatureSet) -> FeatureSet:
        """The features of both sets of images together."""
        return FeatureSet(self.statistics.merge(other.statistics), self.bank.merge(other.bank))


@dataclass
class FeatureSets:
    """The features of one set of images in several spaces, by the space's name."""

    sets: dict[str, FeatureSet]

    @classmethod
    def empty(cls, spaces: Sequence[FeatureSpace]) -> FeatureSets:
        """Sets without images."""
        return cls({space.name: FeatureSet.empty(space.dim) for space in spaces})

    def update(self, spaces: Sequence[FeatureSpace], rows: np.ndarray, images: Tensor) -> None:
        """Adds uint8 images (N, H, W, C)."""
        for space in spaces:
            self.sets[space.name].update(rows, space(images))

    def merge(self, other: FeatureSets) -> FeatureSets:
        """The features of both sets of images together."""
        return FeatureSets({name: features.merge(other.sets[name]) for name, features in self.sets.items()})
