"""Accuracy of verification over folds, and the true accept rate at a small false accept rate.

The protocol of LFW's View 2 (Huang et al. 2007): each fold is judged at the threshold that is best on all other folds,
and the mean accuracy is reported with its standard error. The equal error rate: ``facegen.reporting.pair_metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facegen.reporting.pair_metrics import area_under_roc, equal_error_rate, roc

FALSE_ACCEPT_RATE = 1e-3


@dataclass(frozen=True)
class FoldAccuracy:
    """Share of correct decisions over folds.

    Attributes:
        mean: Mean over folds.
        std: Sample standard deviation over folds (ddof = 1).
        standard_error: Standard error of the mean: ``std / sqrt(folds)``.
    """

    mean: float
    std: float
    standard_error: float

    @classmethod
    def of(cls, is_right: np.ndarray, fold: np.ndarray) -> FoldAccuracy:
        """Computes it from decisions, bool (pairs,), and folds, int (pairs,), at least two of them."""
        accuracies = np.array([is_right[fold == number].mean() for number in np.unique(fold)])
        std = float(accuracies.std(ddof=1))
        return cls(float(accuracies.mean()), std, std / float(np.sqrt(len(accuracies))))


@dataclass(frozen=True)
class Discrimination:
    """Measures without a threshold, over the scores of all folds.

    Attributes:
        equal_error_rate: Error rate at which false accepts are as frequent as false rejects.
        area: Area under the ROC.
        true_accept_rate: At a false accept rate of at most ``FALSE_ACCEPT_RATE``.
    """

    equal_error_rate: float
    area: float
    true_accept_rate: float

    @classmethod
    def of(cls, scores: np.ndarray, same: np.ndarray) -> Discrimination:
        """Computes it from scores, float (pairs,), higher for one person, and ``same``, 1 or 0, each at least once."""
        return cls(equal_error_rate(scores, same), area_under_roc(scores, same), true_accept_rate(scores, same))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the most correct decisions; pairs that score at least as high are accepted.

    It lies halfway between two scores, or beyond all (infinite); of equally good thresholds it is the middle one.
    """
    order = np.argsort(scores, kind="stable")
    ascending, is_same = scores[order].astype(np.float64), same[order].astype(np.int64)
    # Threshold i rejects the i lowest scores: correct are different pairs below it and same pairs above.
    num_right = np.concatenate([[0], np.cumsum(1 - is_same)]) + np.concatenate([np.cumsum(is_same[::-1])[::-1], [0]])
    halfway = (ascending[1:] + ascending[:-1]) / 2
    thresholds = np.concatenate([[-np.inf], halfway, [np.inf]])
    # Between equal scores there is no threshold.
    num_right[1:-1][ascending[1:] == ascending[:-1]] = -1
    best = np.flatnonzero(num_right == num_right.max())
    return float(thresholds[best[len(best) // 2]])


def held_out_thresholds(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """For each pair the threshold that is best on all folds but its own, float64 (pairs,)."""
    thresholds = np.empty(len(scores))
    for number in np.unique(fold):
        is_tested = fold == number
        thresholds[is_tested] = best_threshold(scores[~is_tested], same[~is_tested])
    return thresholds


def true_accept_rate(scores: np.ndarray, same: np.ndarray, false_accept_rate: float = FALSE_ACCEPT_RATE) -> float:
    """The largest true accept rate of a threshold whose false accept rate is at most ``false_accept_rate``.

    Each pair of two people is a step of the false accept rate, so 1e-3 needs thousands; nothing is interpolated.
    """
    false_accept, true_accept = roc(scores, same)
    return float(true_accept[false_accept <= false_accept_rate].max())
