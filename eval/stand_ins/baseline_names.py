"""Names of the baselines, for options that are read before anything slow is imported."""

from __future__ import annotations

from typing import Literal

Baseline = Literal["real", "eigenfaces", "mean_face", "double_exposure"]
DEFAULT_BASELINES: list[Baseline] = ["real", "eigenfaces", "mean_face"]
