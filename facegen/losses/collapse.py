"""Detects an adversarial training that has failed, and not one that has only begun."""

from __future__ import annotations

from collections.abc import Mapping

ACCURACY_LIMIT = 0.995
"""A discriminator that is right, or wrong, more often than this teaches the generator nothing."""
VARIANCE_LIMIT = 0.25
"""Generated images whose variance is a smaller share of the real images' than this are nearly all alike."""
RISE = 1.25
"""A variance that grows by this factor from one epoch to the next is recovering."""


class CollapseDetector:
    """Compares each epoch with the previous one: at first, generated images are gray and easily told from real ones.

    The previous epoch is not saved in checkpoints: after a resume, the first epoch to end is only remembered.
    """

    def __init__(self) -> None:
        """Starts without a previous epoch."""
        self._before: Mapping[str, float] | None = None

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Sentences about a failed training.

        Args:
            means: The means of an epoch: ``d_accuracy`` in [0, 1] and, unless batches had a single image,
                ``sample_variance`` and ``real_variance``.
        """
        before, self._before = self._before, dict(means)
        if before is None:
            return []
        return _accuracy_warnings(before["d_accuracy"], means["d_accuracy"]) + _variance_warnings(before, means)


def _accuracy_warnings(before: float, now: float) -> list[str]:
    if min(before, now) > ACCURACY_LIMIT:
        return [
            f"discriminator won: for two epochs it has been right about more than {ACCURACY_LIMIT:.1%} of the images "
            f"({now:.2%} in the last), so the generator learns next to nothing; make it smaller or regularize it "
            "(spectral norm, R1)."
        ]
    if max(before, now) < 1 - ACCURACY_LIMIT:
        return [
            f"discriminator lost: for two epochs it has been right about less than {1 - ACCURACY_LIMIT:.1%} of the "
            f"images ({now:.2%} in the last), so it gives the generator no direction; make it larger or regularize it "
            "less."
        ]
    return []


def _variance_warnings(before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    if "sample_variance" not in now or not now["real_variance"]:
        return []
    share = now["sample_variance"] / now["real_variance"]
    is_rising = now["sample_variance"] > RISE * before["sample_variance"]
    if share >= VARIANCE_LIMIT or is_rising:
        return []
    return [
        f"mode collapse: over the last epoch the variance of generated images was only {share:.1%} of the real images' "
        f"(below {VARIANCE_LIMIT:.0%}, and not rising), so they are nearly all alike; go back to an earlier checkpoint "
        "with a lower --optim.lr, or regularize the discriminator (spectral norm, R1)."
    ]
