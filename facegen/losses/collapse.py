"""Tells a game between generator and discriminator that is lost from one that has only begun."""

from __future__ import annotations

from collections.abc import Mapping

ACCURACY_LIMIT = 0.995
"""A discriminator that is right (or wrong) more often than this teaches the generator nothing."""
VARIANCE_LIMIT = 0.25
"""Generated images that vary less than this share of the real ones' variance are few different images."""
RISE = 1.25
"""A share that grows by this factor from one epoch to the next is on its way."""


class CollapseDetector:
    """Compares each epoch with the one before: a generator's first images are all gray, and easily told from real ones.

    The epoch before is not part of a checkpoint: after a resume, the first epoch that ends only sets the mark.
    """

    def __init__(self) -> None:
        """Knows no epoch yet."""
        self._before: Mapping[str, float] | None = None

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Sentences about a game that is lost.

        Args:
            means: Of an epoch; ``d_accuracy`` in [0, 1] and, where batches had more than one image,
                ``sample_variance`` and ``real_variance``.
        """
        before, self._before = self._before, dict(means)
        if before is None:
            return []
        return _accuracy_warnings(before["d_accuracy"], means["d_accuracy"]) + _variance_warnings(before, means)


def _accuracy_warnings(before: float, now: float) -> list[str]:
    if min(before, now) > ACCURACY_LIMIT:
        return [
            f"discriminator won: for two epochs it has told more than {ACCURACY_LIMIT:.1%} of all images rightly "
            f"({now:.2%} in the last), so the generator learns next to nothing from it; make it smaller or regularize "
            "it (spectral norm, R1)."
        ]
    if max(before, now) < 1 - ACCURACY_LIMIT:
        return [
            f"discriminator lost: for two epochs it has told less than {1 - ACCURACY_LIMIT:.1%} of all images rightly "
            f"({now:.2%} in the last), so it points the generator nowhere; make it larger or regularize it less."
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
        f"mode collapse: over the last epoch the pixels of generated images varied only {share:.1%} as much as those "
        f"of real images (below {VARIANCE_LIMIT:.0%}, and not rising): the generator makes few different images; go "
        "back to an earlier checkpoint with a lower --optim.lr, or regularize the discriminator (spectral norm, R1)."
    ]
