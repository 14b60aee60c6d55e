"""Procedural portraits: ``render(factors, size)`` paints a face from its ground-truth factors."""

from shards.sources.synthetic.factors import FACTORS, SPECS, Factors, FactorSpec
from shards.sources.synthetic.portrait import render

__all__ = ["FACTORS", "SPECS", "FactorSpec", "Factors", "render"]
