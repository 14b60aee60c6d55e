"""How well scores tell pairs of one person from pairs of two."""

from __future__ import annotations

import numpy as np


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The receiver operating characteristic: a point for every threshold, from "nobody is the same" to "everybody".

    Args:
        scores: float (pairs,), finite, higher for the same person.
        same: (pairs,), 1 for the same person and 0 for two, each at least once.

    Returns:
        False accept rate (of pairs of two people) and true accept rate (of pairs of one), each float64 (points,).
    """
    from sklearn.metrics import roc_curve  # Here, as it loads for a second.

    false_accept, true_accept, _ = roc_curve(same, scores, drop_intermediate=False)
    return false_accept, true_accept


def area_under_roc(scores: np.ndarray, same: np.ndarray) -> float:
    """Probability that a pair of one person scores higher than a pair of two, ties counted half; chance is 0.5.

    NaN where a score is not finite.
    """
    if not np.isfinite(scores).all():
        return np.nan
    false_accept, true_accept = roc(scores, same)
    return float(np.trapezoid(true_accept, false_accept))


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Error rate at the threshold where false accepts are as frequent as false rejects; chance is 0.5.

    The curve between two thresholds is taken as straight. NaN where a score is not finite.
    """
    if not np.isfinite(scores).all():
        return np.nan
    false_accept, true_accept = roc(scores, same)
    excess = false_accept - (1 - true_accept)  # From -1 to 1, rising.
    return float(np.interp(0.0, excess, false_accept))
