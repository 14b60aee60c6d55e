"""Evaluation of finished runs: metrics, latent analysis, pictures and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shards.base.interface import publish

if TYPE_CHECKING:
    from eval.push import push
    from eval.report import report

__all__ = ["push", "report"]

publish(__name__, {"push": "eval.push:push", "report": "eval.report:report"})
