"""Disentanglement, completeness and informativeness of a code (Eastwood and Williams 2018).

The paper takes the importance of a dim for a factor from a random forest. Here the trees are extremely randomized
(Geurts et al. 2006): in a test with a known answer they give noise dims less importance, in half the time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from eval.factors.scores import KnownFactors

NUM_TREES = 40
MIN_LEAF = 5
TRAIN_SHARE = 0.8
MAX_IMAGES = 5_000
"""Images used at most; a factor's forest takes about a second for these."""


class DCI(NamedTuple):
    """The three scores, each from 0 to 1.

    Attributes:
        disentanglement: 1 where each dim matters to one factor only; dims are weighted by how much they matter.
        completeness: 1 where one dim alone matters to each factor; mean over factors.
        informativeness: How well the forests predict the factors of held-out images; mean over factors of the
            explained share of variance or, for a class, of the accuracy above that of the most frequent class,
            rescaled to 1; not below 0.
        importance: (L, K), importance of each dim for each factor; columns add up to 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def dci(latents: np.ndarray, factors: KnownFactors, seed: int = 0) -> DCI:
    """Trains a forest from the latents to each factor, and looks at what it splits on.

    Args:
        latents: mu of active dims, (N, L).
        factors: Of the same images, in random order.
        seed: Of the forests.
    """
    latents, values = latents[:MAX_IMAGES], factors.values[:MAX_IMAGES]
    num_train = int(TRAIN_SHARE * len(latents))
    importance, informativeness = [], []
    for column, is_class in zip(values.T, factors.is_class, strict=True):
        forest = (ExtraTreesClassifier if is_class else ExtraTreesRegressor)(
            n_estimators=NUM_TREES,
            min_samples_leaf=MIN_LEAF,
            max_features=1.0,  # type: ignore[arg-type]
            random_state=seed,
        )
        forest.fit(latents[:num_train], column[:num_train])
        importance.append(forest.feature_importances_)
        score = forest.score(latents[num_train:], column[num_train:])
        if is_class:
            chance = np.unique(column[num_train:], return_counts=True)[1].max() / (len(latents) - num_train)
            score = (score - chance) / (1 - chance) if chance < 1 else 0.0
        informativeness.append(max(0.0, float(score)))
    matrix = np.stack(importance, axis=1)
    return DCI(disentanglement(matrix), completeness(matrix), float(np.mean(informativeness)), matrix)


def disentanglement(importance: np.ndarray) -> float:
    """Mean over dims, weighted by their importance, of one less the entropy over factors, from 0 to 1; takes (L, K)."""
    weight = importance.sum(axis=1) / max(importance.sum(), np.finfo(float).tiny)
    return float((weight * _concentration(importance)).sum())


def completeness(importance: np.ndarray) -> float:
    """Mean over factors of one less the entropy over dims, from 0 to 1; takes (L, K)."""
    return float(_concentration(importance.T).mean())


def _concentration(rows: np.ndarray) -> np.ndarray:
    """For each row: 1 where one entry has everything, 0 where all are equal or all are 0."""
    totals = rows.sum(axis=1, keepdims=True)
    share = np.divide(rows, totals, out=np.full(rows.shape, 1 / rows.shape[1]), where=totals > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)
    return 1 - entropy / np.log(rows.shape[1]) if rows.shape[1] > 1 else np.ones(len(rows))
