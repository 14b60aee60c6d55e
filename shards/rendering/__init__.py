"""Procedural portraits: ``render(factors, size)`` paints a face from its ground-truth factors."""

from shards.rendering.factors import FACTORS, SPECS, Factors, FactorSpec
from shards.rendering.portrait import render

__all__ = ["FACTORS", "SPECS", "FactorSpec", "Factors", "render"]
