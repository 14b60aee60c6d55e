"""Early stopping: ends a run whose held-out metric has not improved for some validations (Prechelt 1998)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from facegen.options import EarlyStopConfig
from facegen.runs.state_file import Progress
from shards.base.errors import UserError


class EarlyStop:
    """Watches one held-out metric. All processes see the same reduced values, and so decide the same.

    Attributes:
        progress: What it has seen so far.
    """

    def __init__(self, config: EarlyStopConfig, available: Sequence[str]) -> None:
        """Starts without any validation.

        Args:
            config: What to watch.
            available: Names of the metrics that this run's validations give.

        Raises:
            UserError: A metric that is not among them.
        """
        if config.metric is not None and config.metric not in available:
            names = f"it gives {', '.join(available)}" if available else "it gives none"
            raise UserError(
                f"early_stop.metric {config.metric} is not a held-out metric of this run; {names}. Held-out metrics "
                "need a val or test split."
            )
        self._config = config
        self.progress = Progress(config.metric, config.goal)

    @property
    def is_over(self) -> bool:
        """Whether training should stop."""
        return self._config.metric is not None and self.progress.num_without_gain >= self._config.patience

    def is_due(self, images_seen: int, validate_every_images: int) -> bool:
        """Whether a validation due at or before ``images_seen`` is missing because a signal cut it off."""
        last_due = images_seen // validate_every_images * validate_every_images
        return self._config.metric is not None and self.progress.validated_images_seen < last_due

    def observe(self, values: Mapping[str, float], images_seen: int) -> bool:
        """Takes the metrics of a validation.

        Returns:
            Whether the watched metric has a new best value; a value that is not finite is never the best.
        """
        metric, progress = self._config.metric, self.progress
        if metric is None or metric not in values:
            return False
        value, sign = values[metric], 1 if self._config.goal == "max" else -1
        is_best = math.isfinite(value) and (progress.best is None or sign * value > sign * progress.best)
        progress.validated_images_seen = images_seen
        progress.num_without_gain += 1
        if is_best:
            progress.best, progress.best_images_seen, progress.num_without_gain = value, images_seen, 0
        return is_best

    def restore(self, saved: Progress | None) -> None:
        """Continues from the ``progress`` of a checkpoint, if it watched the same metric."""
        found = saved or Progress()
        if (found.metric, found.goal) == (self._config.metric, self._config.goal):
            self.progress = found

    def summary(self) -> str:
        """Why the run is over: a sentence without its period."""
        progress = self.progress
        best = (
            "a finite value"
            if progress.best is None
            else f"{progress.best:.4g} at {progress.best_images_seen:,} images"
        )
        return (
            f"stopped early: {progress.metric} has had no better value than {best} for {progress.num_without_gain} "
            "validations"
        )
