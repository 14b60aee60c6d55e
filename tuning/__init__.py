"""Sweeps over training options with Ray Tune. Importing this loads neither ray nor torch."""

from typing import TYPE_CHECKING

from shards.base.interface import publish

if TYPE_CHECKING:
    from tuning.sweep import sweep

__all__ = ["sweep"]

publish(__name__, {"sweep": "tuning.sweep:sweep"})
