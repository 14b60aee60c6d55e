"""How well scores tell pairs of one person from pairs of two."""

from __future__ import annotations

import numpy as np


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The receiver operating characteristic: a point for every threshold, from "nobody is the same" to "everybody".

    Args:
        scores: float (pairs,), higher for the same person.
        same: (pairs,), 1 for the same person and 0 for two, each at least once.

    Returns:
        False accept rate (of pairs of two people) and true accept rate (of pairs of one), each float64 (points,).
    """
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order].astype(np.float64)
    # Pairs of equal score are accepted together, or a constant score would look like a perfect or a useless one.
    last_of_score = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true_accepts = np.append(0, np.cumsum(same)[last_of_score])
    false_accepts = np.append(0, np.cumsum(1 - same)[last_of_score])
    return false_accepts / false_accepts[-1], true_accepts / true_accepts[-1]


def area_under_roc(scores: np.ndarray, same: np.ndarray) -> float:
    """Probability that a pair of one person scores higher than a pair of two, ties counted half; chance is 0.5."""
    false_accept, true_accept = roc(scores, same)
    return float(np.trapezoid(true_accept, false_accept))


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Error rate at the threshold where false accepts are as frequent as false rejects; chance is 0.5.

    The curve between two thresholds is taken as straight.
    """
    false_accept, true_accept = roc(scores, same)
    excess = false_accept - (1 - true_accept)  # From -1 to 1, rising.
    return float(np.interp(0.0, excess, false_accept))
