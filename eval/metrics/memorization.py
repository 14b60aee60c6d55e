"""How many samples are training faces in disguise, judged by what is usual for faces that training never saw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

USUAL_SHARE = 0.01
"""Share of held-out faces that are nearer to a training face than the limit."""


class Memorized(NamedTuple):
    """The share of samples, in [0, 1], that are nearer to a training face than ``limit``."""

    share: float
    limit: float


def memorized(samples: np.ndarray, held_out: np.ndarray) -> Memorized:
    """The share of samples that are nearer to a training face than 99 % of held-out faces are.

    About 0.01 for new faces and 1 for copies; 0 for images that resemble no face at all.

    Args:
        samples: Distance of each sample to its nearest training face, (N,).
        held_out: Likewise of each held-out face, (M,).
    """
    limit = float(np.quantile(held_out, USUAL_SHARE))
    return Memorized(float((samples < limit).mean()), limit)
