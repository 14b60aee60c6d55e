"""From uniform numbers to factors: marginals, the few dependencies between them, and a Gaussian copula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from shards.sources.synthetic.factors import FACTORS, Factors, FactorSpec

_MASCULINE_HAIR = (0.12, 0.38, 0.28, 0.12, 0.00, 0.05, 0.05, 0.00, 0.00)
_FEMININE_HAIR = (0.00, 0.05, 0.05, 0.14, 0.20, 0.18, 0.16, 0.11, 0.11)
_MASCULINE_BEARD = (0.36, 0.20, 0.12, 0.12, 0.20)
_FEMININE_BEARD = (1.0, 0.0, 0.0, 0.0, 0.0)
_YOUNG_HAIR_COLOR = (0.32, 0.30, 0.23, 0.13, 0.02)
_OLD_HAIR_COLOR = (0.08, 0.08, 0.05, 0.02, 0.77)
_GLASSES = (0.70, 0.15, 0.15)
_FEMININE_LIPSTICK = 0.5
_NORMAL = NormalDist()


def factors_from(uniforms: Mapping[str, float]) -> Factors:
    """Maps one number in [0, 1) a factor to the factor's own distribution.

    Floats are uniform over their range. Hair style, beard and lipstick depend on the presentation, the hair color on
    the age; the other factors are independent if the numbers are.
    """
    values: dict[str, Any] = {}
    for spec in FACTORS:
        values[spec.name] = _quantile(spec, uniforms[spec.name], values)
    return Factors(**values)


def value_at(spec: FactorSpec, position: int, num_positions: int) -> float | bool | str:
    """The value at one of ``num_positions`` even steps through a factor's whole range, both ends included."""
    if spec.kind == "float":
        return spec.low + (spec.high - spec.low) * position / (num_positions - 1)
    if spec.kind == "bool":
        return 2 * position >= num_positions
    return spec.classes[position * len(spec.classes) // num_positions]


def correlated(first: float, second: float, correlation: float) -> float:
    """Ties a uniform number to another one through a Gaussian copula; it stays uniform.

    Two uniforms under a Gaussian copula with parameter r have the correlation 6 / pi * asin(r / 2) (Pearson, 1907),
    solved here for r, so that float factors have the given ``correlation``, as Pearson's and as Spearman's coefficient.

    Returns:
        The new value of ``second``.
    """
    parameter = 2 * math.sin(math.pi / 6 * correlation)
    normal = parameter * _NORMAL.inv_cdf(_open(first))
    normal += math.sqrt(max(1 - parameter * parameter, 0.0)) * _NORMAL.inv_cdf(_open(second))
    return min(_NORMAL.cdf(normal), math.nextafter(1.0, 0.0))


def _open(uniform: float) -> float:
    return min(max(uniform, 1e-12), 1 - 1e-12)


def _quantile(spec: FactorSpec, uniform: float, drawn: Mapping[str, Any]) -> float | bool | str:
    if spec.kind == "float":
        return spec.low + (spec.high - spec.low) * uniform
    if spec.kind == "bool":
        return uniform < _FEMININE_LIPSTICK * (1 - _masculine(drawn))
    weights = _weights(spec, drawn)
    target = uniform * sum(weights)
    for name, weight in zip(spec.classes, weights, strict=True):
        if target < weight:
            return name
        target -= weight
    return next(name for name, weight in zip(spec.classes[::-1], weights[::-1], strict=True) if weight > 0)


def _weights(spec: FactorSpec, drawn: Mapping[str, Any]) -> tuple[float, ...]:
    if spec.name == "hair_style":
        return _blend(_FEMININE_HAIR, _MASCULINE_HAIR, _masculine(drawn))
    if spec.name == "beard":
        return _blend(_FEMININE_BEARD, _MASCULINE_BEARD, _masculine(drawn))
    if spec.name == "hair_color":
        return _blend(_YOUNG_HAIR_COLOR, _OLD_HAIR_COLOR, max(drawn["age"] - 0.4, 0.0) / 0.6)
    if spec.name == "glasses":
        return _GLASSES
    return (1.0,) * len(spec.classes)


def _masculine(drawn: Mapping[str, Any]) -> float:
    """Weight of the masculine distributions; between -0.3 and 0.3 the two blend."""
    return min(max(0.5 + drawn["presentation"] / 0.6, 0.0), 1.0)


def _blend(first: tuple[float, ...], second: tuple[float, ...], amount: float) -> tuple[float, ...]:
    return tuple(a + (b - a) * amount for a, b in zip(first, second, strict=True))
