"""Reference features of a split, for comparison with samples and reconstructions; computed once and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.numpy import load_file

from eval.base.ranks import merge_ranks
from eval.features.feature_set import FeatureSet, FeatureSets
from eval.features.row_bank import MAX_FEATURES, RowBank
from eval.features.spaces import FeatureSpace
from eval.metrics.frechet import FeatureStatistics
from facegen.processes.consensus import all_do, main_decides, main_does
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class ReferenceKey:
    """Everything that the features of a split depend on."""

    fingerprint: str
    split: str
    num_images: int
    space: str
    sha256: str
    preprocessing: str
    max_features: int = MAX_FEATURES
    format_version: int = _FORMAT_VERSION

    @property
    def path(self) -> Path:
        """The file in the user's cache directory, or in ``FACEGEN_CACHE``."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]
        return cache_directory() / "features" / f"{self.space}-{digest}.safetensors"


def reference_features(
    dataset: Dataset,
    split: str,
    num_images: int,
    spaces: Sequence[FeatureSpace],
    batch_size: int,
    accelerator: Accelerator,
) -> FeatureSets:
    """Features of the first ``num_images`` of a split in every space, from the cache if possible.

    Every rank must call it. The main one looks into its cache and decides what is computed, and it alone gets the
    features; the others get sets without images.

    Raises:
        UserError: A damaged data set, or a cache that cannot be written.
    """
    keys = {
        space.name: ReferenceKey(dataset.fingerprint, split, num_images, space.name, space.sha256, space.preprocessing)
        for space in spaces
    }
    cached = main_does(lambda: {name: load_features(key.path) for name, key in keys.items()}) or {}
    found = {name: features for name, features in cached.items() if features}
    names = main_decides(lambda: set(found))
    missing = [space for space in spaces if space.name not in names]
    features = FeatureSets.empty(missing)

    def extract() -> None:
        batches = evaluation_batches(
            dataset,
            split,
            batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            limit=num_images,
            fields=(),
        )
        own_images = -(-num_images // accelerator.num_processes)
        with ProgressLine(f"features of {split}", own_images, quiet=not accelerator.is_main_process) as progress:
            for batch in batches:
                features.update(missing, batch.rows.numpy(), batch.images)
                progress.update(len(batch.rows))

    def save() -> None:
        for name, computed in features.sets.items():
            save_features(keys[name].path, computed)

    if missing:
        all_do(extract)
        features = merge_ranks(features)
        main_does(save)
    return FeatureSets(found | features.sets) if accelerator.is_main_process else FeatureSets.empty(spaces)


def splits_features(
    dataset: Dataset,
    splits: Sequence[str],
    spaces: Sequence[FeatureSpace],
    batch_size: int,
    accelerator: Accelerator,
) -> FeatureSets:
    """Features of all images of some splits together; each split is cached on its own.

    Every rank must call it; the main one gets the features, as ``reference_features`` returns them.
    """
    found = [
        reference_features(dataset, split, dataset.num_samples(split), spaces, batch_size, accelerator).sets
        for split in splits
    ]
    if not accelerator.is_main_process:
        return FeatureSets.empty(spaces)
    return FeatureSets({space.name: _joined([sets[space.name] for sets in found]) for space in spaces})


def _joined(sets: Sequence[FeatureSet]) -> FeatureSet:
    """All images of some sets; the features that are kept are of the same share of each."""
    statistics = reduce(FeatureStatistics.merge, (features.statistics for features in sets))
    kept = [features.bank.ordered() for features in sets]
    counts = [features.statistics.count for features in sets]
    places = [(np.arange(len(rows)) + 0.5) / count for rows, count in zip(kept, counts, strict=True)]
    order = np.argsort(np.concatenate(places), kind="stable")[:MAX_FEATURES]
    return FeatureSet(statistics, RowBank.of(np.concatenate(kept)[order]))


def save_features(path: Path, features: FeatureSet) -> None:
    """Writes a cached file."""
    tensors = {
        "count": np.array([features.statistics.count]),
        "total": features.statistics.total,
        "outer": features.statistics.outer,
        "features": features.bank.ordered(),
    }
    save_tensors(path, tensors)


def load_features(path: Path) -> FeatureSet | None:
    """Reads a cached file; None if it is absent or damaged."""
    try:
        tensors = load_file(path)
        statistics = FeatureStatistics(int(tensors["count"][0]), tensors["total"], tensors["outer"])
        kept = tensors["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return FeatureSet(statistics, RowBank.of(kept))
