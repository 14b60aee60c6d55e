"""scikit-learn classifiers on pairs of latents, each fitted on all folds but the one it judges."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from shards.base.progress import tracked

_NUM_NEIGHBORS = 15
LARGE_LATENTS = 512
"""Dims above which classifiers see principal components by default: with thousands of dims some of them take hours."""

CLASSIFIERS: Mapping[str, Callable[[], ClassifierMixin]] = {
    "LDA": LinearDiscriminantAnalysis,
    # Shrunk covariances: with fewer pairs than dims they would be singular.
    "QDA": lambda: QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
    "SVM": lambda: SVC(cache_size=500),
    "logistic regression": lambda: LogisticRegression(max_iter=1000),
    "kNN": lambda: KNeighborsClassifier(_NUM_NEIGHBORS),
}
"""LDA, QDA, an SVM with a Gaussian kernel, logistic regression, and the nearest neighbors."""

Combine = Literal["difference", "concatenation"]


@dataclass(frozen=True)
class PairFeatures:
    """How the features of a pair are made of two latents.

    Attributes:
        combine: Absolute difference, which ignores their order, or concatenation.
        pca: Components of the latents (``before`` they are combined), of the features (``after``), or none; ``auto`` is
            ``before`` for latents of more than ``LARGE_LATENTS`` dims.
        num_components: Maximum number of components.
    """

    combine: Combine = "difference"
    pca: Literal["auto", "none", "before", "after"] = "none"
    num_components: int = 50

    def reduces_latents(self, size: int) -> bool:
        """Whether classifiers see components of latents of ``size`` dims."""
        return self.pca == "before" or (self.pca == "auto" and size > LARGE_LATENTS)


@dataclass(frozen=True)
class Judged:
    """Judgments of pairs by a classifier that was not fitted on them.

    Attributes:
        scores: float64 (pairs,), higher for the same person.
        is_right: bool (pairs,), by the classifier's own decision.
    """

    scores: np.ndarray
    is_right: np.ndarray


def judge_pairs(
    latents: np.ndarray, pairs: np.ndarray, same: np.ndarray, fold: np.ndarray, name: str, features: PairFeatures
) -> Judged:
    """Fits a classifier once for each fold, on the others, and judges that fold.

    Features are standardized. Neither standardization nor PCA sees the fold that is judged.

    Args:
        latents: (N, L).
        pairs: int64 (P, 2), rows of ``latents``.
        same: int64 (P,), 1 or 0.
        fold: int64 (P,).
        name: Key of ``CLASSIFIERS``.
        features: Features that the classifier sees.
    """
    scores, is_right, folds = np.empty(len(pairs)), np.empty(len(pairs), bool), np.unique(fold)
    is_reduced = features.reduces_latents(latents.shape[1])
    for number in tracked(folds, name, len(folds), "folds"):
        is_tested = fold == number
        points = _reduced(latents, pairs[~is_tested], features) if is_reduced else latents
        combined = combine(points, pairs, features.combine)
        model = _pipeline(name, features, combined.shape, int((~is_tested).sum()))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Variables are collinear")  # LDA copes with it.
            model.fit(combined[~is_tested], same[~is_tested])
        scores[is_tested] = _scores(model, combined[is_tested])
        is_right[is_tested] = model.predict(combined[is_tested]) == same[is_tested]
    return Judged(scores, is_right)


def combine(latents: np.ndarray, pairs: np.ndarray, how: Combine) -> np.ndarray:
    """Features float32 (P, L or 2 L) of pairs (P, 2) of rows of latents (N, L)."""
    first, second = (latents[column].astype(np.float32) for column in pairs.T)
    return np.abs(first - second) if how == "difference" else np.concatenate([first, second], axis=1)


def _reduced(latents: np.ndarray, fitted_on: np.ndarray, features: PairFeatures) -> np.ndarray:
    """All latents in the principal components of those that occur in the pairs ``fitted_on``."""
    known = latents[np.unique(fitted_on)]
    num = min(features.num_components, *known.shape)
    return make_pipeline(StandardScaler(), PCA(num, random_state=0)).fit(known).transform(latents)


def _pipeline(name: str, features: PairFeatures, shape: tuple[int, ...], num_fitted: int) -> Pipeline:
    steps: list = [StandardScaler()]
    if features.pca == "after":
        steps.append(PCA(min(features.num_components, shape[1], num_fitted), random_state=0))
    classifier = CLASSIFIERS[name]()
    if isinstance(classifier, KNeighborsClassifier):
        classifier.set_params(n_neighbors=min(_NUM_NEIGHBORS, num_fitted))
    return make_pipeline(*steps, classifier)


def _scores(model: Pipeline, points: np.ndarray) -> np.ndarray:
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(points), np.float64)
    return model.predict_proba(points)[:, 1]
