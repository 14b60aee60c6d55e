"""Hair: what hangs behind the head, and what frames the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.sources.synthetic.canvas import Array, Box, blob, ellipse, inside, mix, ramp, scaled, slope
from shards.sources.synthetic.head import CROWN_SQUARE, Head, quartic, shade
from shards.sources.synthetic.palette import hair_color, skin_color
from shards.sources.synthetic.texture import noise, streaks, wave


@dataclass(frozen=True)
class HairShape:
    """One style. Lengths in head units; the face opening is an ellipse above its center and straight below it.

    Attributes:
        volume: How far the hair stands out beyond the skull.
        side: How far it stands out at the sides.
        part: Where it parts, in u.
        opening: Half width of the opening that shows the face, in head half widths.
        hairline: Added to the height of the hairline (positive: lower on the forehead).
        point: Makes the top of the opening pointed (0 round, 0.3 an arch).
        ends_y: Where the hair beside the face ends.
        square: Whether the opening has a flat top, as bangs have.
        curl: Depth of the curls on the outline.
        tousled: Whether the hairline is ragged.
    """

    volume: float
    side: float
    part: float
    opening: float
    hairline: float
    point: float
    ends_y: float
    square: bool = False
    curl: float = 0.0
    tousled: bool = False


_SHAPES: dict[str, HairShape] = {
    "short": HairShape(0.085, 0.042, 0.00, 0.93, 0.02, 0.00, 0.02, tousled=True),
    "side_part": HairShape(0.115, 0.035, 0.20, 0.92, 0.03, 0.16, 0.04, tousled=True),
    "curly": HairShape(0.170, 0.150, 0.00, 0.86, 0.06, 0.00, 9.0, curl=0.045),
    "bob": HairShape(0.090, 0.125, 0.16, 0.80, 0.00, 0.26, 0.60),
    "long": HairShape(0.080, 0.120, 0.00, 0.80, -0.01, 0.34, 9.0),
    "wavy": HairShape(0.120, 0.180, -0.15, 0.80, 0.00, 0.26, 9.0, curl=0.022),
    "bun": HairShape(0.045, 0.012, 0.00, 0.90, -0.01, 0.00, -0.02),
    "fringe": HairShape(0.095, 0.120, 0.00, 0.81, 0.205, 0.00, 9.0, square=True),
}
_CURLY_MIDDLE_Y = -0.30
_BALD_OPENING = HairShape(0.0, 0.0, 0.0, 0.97, 0.10, 0.0, 0.0)


def covers_ears(head: Head) -> bool:
    """Whether the style hides the ears: they are then painted before it."""
    return head.factors.hair_style in _SHAPES and _SHAPES[head.factors.hair_style].ends_y > 0.1


def paint_back_hair(head: Head) -> None:
    """Paints the hair that shows behind neck and head."""
    style = head.factors.hair_style
    if style == "bun":
        _paint_bun(head)
    if not covers_ears(head):
        return
    shape, canvas = _SHAPES[style], head.canvas
    box = canvas.box(-1.3, -1.2, 1.3, min(shape.ends_y + 0.1, 1.6))
    x, y = _waved(head, shape, box)
    cover = inside((1 - _silhouette(head, shape, x, y)) * 0.6, canvas.pixel) * _ends(shape, x, y, canvas.pixel)
    light = 0.50 + 0.10 * streaks(x * 13.0, canvas.pixel * 13.0) + 0.12 * np.clip(x * head.geometry.light[0], -1, 1)
    canvas.paint(box, cover, shade(light, hair_color(head.factors)))


def paint_front_hair(head: Head) -> None:
    """Paints the cap of hair with its part, the strands beside the face, and their shadow on the skin."""
    if head.factors.hair_style == "bald":
        _paint_shaved(head)
        return
    shape, canvas = _SHAPES[head.factors.hair_style], head.canvas
    box = canvas.box(-1.3, -1.2, 1.3, min(max(shape.ends_y, 0.45) + 0.1, 1.6))
    x, y = _waved(head, shape, box)
    opening = _opening(head, shape, box)
    rim = head.cover[box] * ramp(opening, 0.74, 1.05) * ramp(y, 0.35, 0.0)
    canvas.multiply(box, 0.42 * rim, (0.62, 0.50, 0.48))

    level = _silhouette(head, shape, x, y)
    edge = canvas.pixel * (2.2 if shape.square else 1.5)
    cover = inside((1 - level) * 0.6, canvas.pixel) * inside((opening - 1) * 0.4, edge)
    cover *= _side_ends(head, shape, box) if not covers_ears(head) else _ends(shape, x, y, canvas.pixel)
    light, gloss = _hair_light(head, shape, box, x, y, level, opening)
    canvas.paint(box, cover, shade(light, hair_color(head.factors)) + gloss)


def _waved(head: Head, shape: HairShape, box: Box) -> tuple[Array, Array]:
    """Coordinates on the hair: it lies behind the face, so a turn moves it the other way."""
    x, y = head.canvas.x[box] + 0.03 * head.geometry.sin_yaw, head.canvas.y[box]
    if head.factors.hair_style == "wavy":
        x = x + shape.curl * wave(y * 2.6 + np.where(x < 0, np.float32(0.35), np.float32(0.0))) * ramp(y, -0.55, 0.0)
    return x, y


def _silhouette(head: Head, shape: HairShape, x: Array, y: Array) -> Array:
    """Outline of the hair: an ellipse above the ears, straight below; below 1 inside."""
    top = head.geometry.crown_y - shape.volume
    if head.factors.hair_style == "curly":
        middle = _CURLY_MIDDLE_Y
        around = x / (np.abs(x) + np.abs(y - middle) + 0.02)
        return ellipse(x, y - middle, head.radius + shape.side, middle - top) - shape.curl * wave(around * 4.5 + 0.25)
    if covers_ears(head):
        return _dome(x * (1 / (head.radius + shape.side)), y, top)
    # Short hair comes closer to the head towards the ears.
    return _dome(x / (head.radius + shape.side * ramp(y, 0.10, -0.30)), y, top)


def _dome(across: Array, y: Array, top: float) -> Array:
    return np.sqrt(across * across + quartic(np.minimum(y, 0) * (1 / top), CROWN_SQUARE))


def _opening(head: Head, shape: HairShape, box: Box) -> Array:
    """Level of the opening in the hair that shows the face: below 1 inside."""
    geometry = head.geometry
    u, y = head.u[box] - shape.part, head.y[box]
    half = shape.opening * geometry.half_width
    across = np.abs(u) * np.where(u < 0, np.float32(1 / (half + shape.part)), np.float32(1 / (half - shape.part)))
    across = (across + shape.point) * (1 / (1 + shape.point))
    top, center = geometry.hairline_y + shape.hairline, 0.12
    down = np.minimum(y - center, 0) * (1 / (center - top))
    across *= across
    down *= down
    if shape.square:
        across *= across
        down *= down
    level = np.sqrt(across + down)
    if shape.tousled:
        level += 0.05 * noise(u * 16.0 + 5.0 * y)  # the roots of short hair have no clean edge
    return level


def _ends(shape: HairShape, x: Array, y: Array, pixel: float) -> Array:
    """Coverage above the tips, which bend inwards to a round edge."""
    if shape.ends_y > 2:
        return np.ones_like(x)
    return inside(shape.ends_y - 0.10 * np.clip(x * x * 2.2, 0, 1) - y, pixel * 2)


def _side_ends(head: Head, shape: HairShape, box: Box) -> Array:
    """Coverage above the sideburns, and down to the nape behind the ear of a turned head."""
    width = head.geometry.half_width
    nape = 0.36 * ramp(np.abs(head.u[box]), width, 1.2 * width) * head.cover[box]
    return inside(shape.ends_y + nape - head.y[box], head.canvas.pixel + 0.05)


def _hair_light(
    head: Head, shape: HairShape, box: Box, x: Array, y: Array, level: Array, opening: Array
) -> tuple[Array, Array]:
    """Brightness of the hair under the light, and the gloss that even black hair has."""
    light_x, light_y, light_z = head.geometry.light
    pixel = head.canvas.pixel
    radius_x, radius_y = head.radius + shape.side, shape.volume - head.geometry.crown_y
    normal_x = np.clip(x * (1 / radius_x), -1, 1)
    normal_y = np.clip(y * (1 / radius_y), -1, 0)
    normal_z = np.sqrt(np.maximum(1 - normal_x * normal_x - normal_y * normal_y, 0))
    diffuse = normal_x * light_x + normal_y * light_y + normal_z * light_z
    if head.factors.hair_style == "curly":
        across = streaks(x * 9.0 + 0.9 * wave(y * 3.1), pixel * 9.0)
        strands = 1.8 * across * streaks(y * 10.0 + 0.9 * wave(x * 2.7), pixel * 9.0)
    elif covers_ears(head):
        # Strands run along the outline; those on either side of a part do not meet.
        offset = np.where(head.u[box] < shape.part, np.float32(31 if shape.point > 0 else 0), np.float32(0))
        strands = streaks(level * 13.0 + offset, pixel * 15.0)
        if shape.point > 0:
            strands *= slope(np.abs(head.u[box] - shape.part), 0.0, 0.07)
    else:
        strands = streaks((x - shape.part) / np.maximum(0.55 - y, 0.1) * 17.0, pixel * 16.0)
    sheen_at = (level - 0.66) * (1 / 0.24)
    sheen = np.maximum(1 - sheen_at * sheen_at, 0) * ramp(y, 0.15, -0.25)
    light = 0.56 + 0.40 * np.maximum(diffuse + 0.25, 0)
    light += strands * (0.095 + 0.08 * sheen)
    light -= 0.20 * ramp(opening, 1.16, 1.0)
    light -= 0.12 * ramp(level, 0.80, 1.02)
    sheen *= np.maximum(diffuse, 0)
    return light, sheen * (0.12 + 0.09 * strands)


def _paint_bun(head: Head) -> None:
    canvas = head.canvas
    x, y = canvas.x + 0.10 * head.geometry.sin_yaw, canvas.y - (head.geometry.crown_y - 0.085)
    box = canvas.box(-0.40, -1.2, 0.40, -0.45)
    x, y = x[box], y[box]
    level = ellipse(x, y, 0.205, 0.165)
    light_x, light_y, _ = head.geometry.light
    light = 0.74 + 1.1 * (x * light_x + y * light_y) - 0.20 * ramp(level, 0.6, 1.0)
    light += 0.09 * streaks((x * 0.8 + y) * 15.0, canvas.pixel * 18.0)
    canvas.paint(box, inside((1 - level) * 0.18, canvas.pixel), shade(light, hair_color(head.factors)))


def _paint_shaved(head: Head) -> None:
    """A bald head: a trace of shaved hair, and a highlight on the crown."""
    canvas, geometry = head.canvas, head.geometry
    box = canvas.box(-0.8, -0.8, 0.8, 0.2)
    opening = _opening(head, _BALD_OPENING, box)
    trace = ramp(opening, 0.92, 1.12) * head.cover[box] * ramp(head.y[box], 0.12, -0.08)
    canvas.paint(box, 0.13 * trace, head.lit(box, scaled(hair_color(head.factors), 0.9)))
    light_x, light_y, _ = geometry.light
    shine = blob(canvas.x[box] - 0.26 * light_x, canvas.y[box] + 0.46 - 0.06 * light_y, 0.20, 0.13)
    canvas.paint(box, 0.26 * shine * head.cover[box], mix(skin_color(head.factors), (1.0, 1.0, 1.0), 0.5))
