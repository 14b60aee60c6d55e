"""Does an attribute vector work: do judgments of edited faces rise with the strength of the edit?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AttributeEffect:
    """How judgments follow the strength of an edit.

    Attributes:
        mean: (strengths,) mean judgment at each strength.
        monotone: Share of faces whose judgment never falls from one strength to the next.
        rises: Share of faces with a higher judgment at the last strength than at the first.
    """

    mean: np.ndarray
    monotone: float
    rises: float


def attribute_effect(judged: np.ndarray) -> AttributeEffect:
    """Summarizes judgments of edited faces.

    Args:
        judged: Judgments, faces x strengths; at least two strengths, in rising order.
    """
    steps = np.diff(judged, axis=1)
    return AttributeEffect(
        mean=judged.mean(axis=0),
        monotone=float((steps >= 0).all(axis=1).mean()),
        rises=float((judged[:, -1] > judged[:, 0]).mean()),
    )
