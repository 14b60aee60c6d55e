"""Evaluation of finished runs: metrics, latent analysis, pictures and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shards.base.interface import publish

if TYPE_CHECKING:
    from eval.report import report

__all__ = ["report"]

publish(__name__, {"report": "eval.report:report"})
