"""Was a model trained on the people of some pairs?"""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.verification.pair_set import PairSet
from shards.dataset.dataset import Dataset


def seen_in_training(model: Any, dataset: Dataset, pairs: PairSet, identity: str) -> str:
    """Says in one sentence which of the pairs a model has seen.

    If it was trained on this data set, people are compared with the training split. Of another data set only the names
    of its people are known, not their splits.

    Args:
        model: As ``facegen.model.load`` returns it.
        dataset: Data set of the pairs.
        pairs: The pairs.
        identity: Class label of the person; without it, images are compared.
    """
    num = len(pairs.same)
    has_people = identity in dataset.fields and dataset.fields[identity].kind == "class"
    if model.dataset_fingerprint == dataset.fingerprint:
        if not has_people:
            num_seen = int(pairs.is_in_split("train").sum())
            return f"trained on an image of {num_seen:,} of the {num:,} pairs; who is on them is not known"
        trained = np.unique(dataset.labels(identity, "train"))
        num_seen = _num_with(pairs, np.isin(pairs.image_labels(dataset, identity), trained[trained >= 0]))
        if not num_seen:
            return "trained on none of these people"
        return f"TRAINED on people of {num_seen:,} of the {num:,} pairs"
    theirs = f"trained on another data set ({model.description.dataset_name}, {model.dataset_fingerprint})"
    known = model.description.label_fields.get(identity, {})
    if not has_people or known.get("kind") != "class":
        return f"{theirs}; whether it has these people is not known"
    names = np.array(dataset.fields[identity].classes)
    people = pairs.image_labels(dataset, identity)
    is_known = np.isin(names[people], known["classes"]) & (people >= 0)
    return f"{theirs}, which has people of the same names in {_num_with(pairs, is_known):,} of the {num:,} pairs"


def _num_with(pairs: PairSet, is_meant: np.ndarray) -> int:
    """Number of pairs with at least one of the images ``is_meant``, bool (N,)."""
    return int(is_meant[pairs.pairs].any(axis=1).sum())
