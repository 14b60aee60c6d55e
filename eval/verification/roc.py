"""ROC curves, and the most confident mistakes of a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from eval.drawing import svg
from eval.drawing.grids import Row, face_grid
from eval.verification.folds import Scored
from eval.verification.pair_set import PairSet
from facegen.reporting.pair_metrics import roc
from shards.dataset.dataset import Dataset

_NUM_POINTS = 200


def roc_chart(scored: Sequence[Scored], same: np.ndarray, title: str) -> str:
    """Draws a curve for each score as SVG; chance is the diagonal.

    Args:
        scored: Scores of the same pairs.
        same: int64 (pairs,).
        title: Title for screen readers.
    """
    series = []
    for color, result in enumerate(scored):
        false_accept, true_accept = roc(result.scores, same)
        kept = np.unique(np.linspace(0, len(false_accept) - 1, _NUM_POINTS).round().astype(np.int64))
        label = f"{result.line.run}, {result.line.method}"
        series.append(svg.Series(label, false_accept[kept].tolist(), true_accept[kept].tolist(), color))
    series.append(svg.Series("chance", [0.0, 1.0], [0.0, 1.0], svg.NUM_COLORS - 1, faint=True))
    return svg.line_chart(title, series, "false accept rate; up: true accept rate")


def worst_mistakes(margins: np.ndarray, same: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs on the wrong side of their threshold, the farthest first.

    Args:
        margins: float64 (pairs,), score less threshold.
        same: int64 (pairs,).
        num: Maximum number of either kind.

    Returns:
        Pairs of two people that were accepted, and pairs of one person that were rejected.
    """
    by_margin = np.argsort(-margins, kind="stable")
    accepted = by_margin[(same[by_margin] == 0) & (margins[by_margin] >= 0)]
    rejected = by_margin[::-1][(same[by_margin[::-1]] == 1) & (margins[by_margin[::-1]] < 0)]
    return accepted[:num], rejected[:num]


def mistakes_sheet(dataset: Dataset, pairs: PairSet, accepted: np.ndarray, rejected: np.ndarray) -> Image.Image | None:
    """Draws the pairs side by side, each with one face above the other; None without mistakes."""
    rows = []
    for label, chosen in (("two, taken for one", accepted), ("one, taken for two", rejected)):
        if len(chosen):
            first, second = (pairs.images(dataset, column) for column in pairs.pairs[chosen].T)
            rows += [Row(first, label), Row(second)]
    return face_grid(rows) if rows else None
