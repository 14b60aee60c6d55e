"""Colors of skin, hair, eyes, lips, clothes and background, as sRGB in [0, 1]."""

from __future__ import annotations

import colorsys

from shards.sources.synthetic.canvas import Color, mix, scaled
from shards.sources.synthetic.factors import Factors

_SKIN_RAMP: tuple[Color, ...] = (
    (0.985, 0.882, 0.812),
    (0.953, 0.800, 0.690),
    (0.890, 0.690, 0.545),
    (0.760, 0.535, 0.385),
    (0.575, 0.380, 0.265),
    (0.400, 0.258, 0.190),
)
_HAIR: dict[str, Color] = {
    "black": (0.130, 0.110, 0.115),
    "brown": (0.360, 0.230, 0.150),
    "blond": (0.850, 0.690, 0.420),
    "red": (0.640, 0.300, 0.150),
    "gray": (0.690, 0.680, 0.670),
}
_IRIS: dict[str, Color] = {
    "brown": (0.340, 0.200, 0.110),
    "hazel": (0.520, 0.370, 0.180),
    "green": (0.330, 0.500, 0.300),
    "blue": (0.270, 0.480, 0.720),
    "gray": (0.450, 0.520, 0.570),
}


def skin_color(factors: Factors) -> Color:
    """Skin in full light: a piecewise linear ramp over the tone."""
    position = min(max(factors.skin, 0.0), 1.0) * (len(_SKIN_RAMP) - 1)
    index = min(int(position), len(_SKIN_RAMP) - 2)
    return mix(_SKIN_RAMP[index], _SKIN_RAMP[index + 1], position - index)


def hair_color(factors: Factors) -> Color:
    """Hair in full light; the tone makes it up to a quarter darker or lighter."""
    return scaled(_HAIR[factors.hair_color], 1.0 + 0.22 * factors.hair_tone)


def iris_color(factors: Factors) -> Color:
    """The iris between its dark rim and the pupil."""
    return _IRIS[factors.eye_color]


def lip_color(factors: Factors) -> Color:
    """Natural lips are a redder, darker skin; lipstick is close to one red on every skin."""
    skin = skin_color(factors)
    natural = (skin[0] * 0.86, skin[1] * 0.60, skin[2] * 0.62)
    return mix(natural, (0.740, 0.140, 0.200), 0.8) if factors.lipstick else natural


def background_color(factors: Factors) -> Color:
    """A muted studio color."""
    return colorsys.hls_to_rgb(factors.background_hue % 1.0, 0.34 + 0.48 * factors.background_lightness, 0.30)


def clothes_color(factors: Factors) -> Color:
    """Cloth, darker than most backgrounds so that the shoulders stay visible."""
    return colorsys.hls_to_rgb(factors.clothes_hue % 1.0, 0.36, 0.36)
