"""Evaluation of finished runs: metrics, latent analysis, pictures and reports."""

from shards.base.interface import publish

publish(__name__, {"report": "eval.report:report"})
