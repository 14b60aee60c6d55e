"""What makes a trial good: a weighted sum of held-out metrics."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

SPLIT = "val"
"""Split that trials are compared on; the test split stays unseen until the sweep is over."""
SCORE = "score"
"""Name of the objective's value; lower is better."""


@dataclass(frozen=True)
class HeldOutMetric:
    """A number that an objective may use."""

    lower_is_better: bool
    part: str | None = None
    """Part of a report that measures it; None if training's own validation does."""
    key: str = ""
    """Its key in the report."""


METRICS = {
    "mse": HeldOutMetric(True),
    "kl": HeldOutMetric(True),
    "accuracy": HeldOutMetric(False),
    "eer": HeldOutMetric(True),
    "auc": HeldOutMetric(False),
    "elbo": HeldOutMetric(False, "likelihood", "elbo"),
    "bits_per_dim": HeldOutMetric(True, "likelihood", "bits_per_dim"),
    "fd_efflite0": HeldOutMetric(True, "distances:samples", "frechet_efflite0_samples"),
    "fid": HeldOutMetric(True, "distances:samples", "frechet_inception_samples"),
}


@dataclass(frozen=True)
class Objective:
    """What is minimised: the sum of weight times metric; metrics of which higher is better count negative."""

    weights: dict[str, float] = field(default_factory=lambda: {"mse": 1.0})
    """Weight of each metric: mse, kl, elbo, bits_per_dim, fd_efflite0, fid; accuracy, eer, auc of a verifier."""
    num_images: int = 500
    """Held-out images (the first ones), and samples, for elbo, bits_per_dim, fd_efflite0 and fid."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not self.weights:
            raise ValueError("objective.weights names no metric; give at least one, such as mse: 1.")
        for name, weight in self.weights.items():
            if name not in METRICS:
                near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"give some of {', '.join(METRICS)}."
                raise ValueError(f"objective.weights: there is no metric '{name}'; {hint}")
            if not 0 < weight < math.inf:
                raise ValueError(f"objective.weights.{name} must be a positive number, not {weight}.")
        if self.num_images < 2:
            raise ValueError(f"objective.num_images must be at least 2, not {self.num_images}.")

    @property
    def parts(self) -> frozenset[str]:
        """Parts of a report that measure its metrics."""
        return frozenset(part for name in self.weights if (part := METRICS[name].part))

    def score(self, values: Mapping[str, float]) -> float:
        """The weighted sum, given a value for every metric."""
        return sum(
            weight * (values[name] if METRICS[name].lower_is_better else -values[name])
            for name, weight in self.weights.items()
        )

    def describe(self) -> str:
        """In words, such as ``100 mse + 0.1 fd_efflite0``."""
        if self.weights == {name: 1.0 for name in self.weights} and len(self.weights) == 1:
            name = next(iter(self.weights))
            return name if METRICS[name].lower_is_better else f"-{name}"
        terms = [
            f"{'' if METRICS[name].lower_is_better else '-'}{weight:g} {name}" for name, weight in self.weights.items()
        ]
        return " + ".join(terms).replace("+ -", "- ")
