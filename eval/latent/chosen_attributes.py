"""Which of a data set's labels the report shows as attributes: up to four that tell two large groups apart."""

from __future__ import annotations

import numpy as np

from eval.latent.attribute_vectors import BEST_KNOWN, presence
from shards.dataset.dataset import Dataset

NUM_ATTRIBUTES = 4
_NOT_ATTRIBUTES = ("group",)
"""The number of a group of rendered images is a float, but says nothing of the face."""

Groups = tuple[np.ndarray, np.ndarray]


def choose_attributes(dataset: Dataset, split: str, num_images: int) -> dict[str, Groups]:
    """The preferred labels, then those whose two groups are most nearly of one size.

    Args:
        dataset: Whose bool and degree labels.
        split: Of which split.
        num_images: How many of its first images.

    Returns:
        By name: which images have the attribute and which have it not, bool (num_images,), neither without an image.
    """
    found = {
        name: presence(field, dataset.labels(name, split)[:num_images])
        for name, field in dataset.fields.items()
        if name not in _NOT_ATTRIBUTES
    }
    groups = {name: both for name, both in found.items() if both is not None}
    order = sorted(groups, key=lambda name: (name not in BEST_KNOWN, _rank(name), -_smaller_share(groups[name])))
    return {name: groups[name] for name in order[:NUM_ATTRIBUTES]}


def _rank(name: str) -> int:
    return BEST_KNOWN.index(name) if name in BEST_KNOWN else len(BEST_KNOWN)


def _smaller_share(groups: Groups) -> float:
    sizes = [int(group.sum()) for group in groups]
    return min(sizes) / sum(sizes)
