"""What gives the skin its form: cheeks, chin, nose, folds and lines of age."""

from __future__ import annotations

import numpy as np

from shards.sources.synthetic.canvas import Array, Box, blob, ellipse, inside, scaled, slope, stroke
from shards.sources.synthetic.geometry import signs_of_age
from shards.sources.synthetic.head import Head
from shards.sources.synthetic.palette import skin_color

_NOSE_PROTRUSION = 0.17
"""How far the tip of the nose stands out from the face: a turn moves it that much more."""


def raise_reliefs(head: Head) -> None:
    """Changes the light on the face where cheeks, chin and nose rise from the head, before the skin is painted."""
    geometry, light_x = head.geometry, head.geometry.light[0]
    grin = max(head.factors.smile, 0.0)

    center, middle = 0.270 + 0.02 * grin, 0.235 - 0.035 * grin
    box = head.box(-center - 0.20, middle - 0.19, center + 0.20, middle + 0.19)
    u, y = head.u[box], head.y[box] - middle
    x = np.abs(u) - center
    toward_light = x * np.where(u < 0, np.float32(-5 * light_x), np.float32(5 * light_x))
    head.diffuse[box] += blob(x, y, 0.20, 0.17) * (0.13 + 0.15 * grin) * (1 + toward_light - y * 4.5)

    box = head.box(-0.24, geometry.mouth_y, 0.24, geometry.chin_y)
    x, y = head.u[box], head.y[box]
    head.diffuse[box] += 0.20 * blob(x, y - (geometry.chin_y - 0.115), 0.17, 0.12) * (1 + x * (light_x * 5.0))
    head.diffuse[box] -= 0.22 * blob(x, y - (geometry.mouth_y + 0.105), 0.15, 0.055)
    _raise_nose(head)


def _raise_nose(head: Head) -> None:
    geometry, light_x = head.geometry, head.geometry.light[0]
    tip = geometry.nose_y - 0.055
    box = head.box(-0.30, -0.10, 0.30, geometry.nose_y + 0.06)
    x, y = _nose_x(head, box), head.y[box]
    down = slope(y, -0.06, tip)
    width = geometry.nose_width * (0.55 + 0.50 * down * down)
    t = np.clip(x / width, -1, 1)
    flank = t * (1 - t * t) * (0.35 + 0.65 * down) * slope(y, geometry.nose_y + 0.02, geometry.nose_y - 0.05)
    relief = flank * (1.15 * light_x) - np.abs(flank) * 0.34
    relief += 0.22 * blob(x, y - tip, 0.065, 0.075) + 0.12 * blob(x, y - 0.08, 0.035, 0.19)
    away = 1 if light_x > 0 else -1
    # The nose casts a soft shadow on the side away from the light.
    relief -= (0.34 * abs(light_x)) * blob(x + away * (width + 0.035), y - tip - 0.01, 0.085, 0.13)
    head.diffuse[box] += relief


def _nose_x(head: Head, box: Box) -> Array:
    """Frontal coordinate on the nose: the further it stands out, the more a turn shifts it."""
    out = slope(head.y[box], -0.10, head.geometry.nose_y - 0.05)
    return head.u[box] - out * (_NOSE_PROTRUSION * head.geometry.sin_yaw)


def paint_nose(head: Head) -> None:
    """Paints the nostrils, the wings and the highlight on the tip."""
    canvas, geometry, pixel = head.canvas, head.geometry, head.pixel
    skin = skin_color(head.factors)
    dark = (skin[0] * 0.56, skin[1] * 0.40, skin[2] * 0.38)
    shift = _NOSE_PROTRUSION * geometry.sin_yaw
    bottom, width = geometry.nose_y, geometry.nose_width
    box = head.box(shift - 1.7 * width, bottom - 0.16, shift + 1.7 * width, bottom + 0.06)
    x, y = head.u[box] - shift, head.y[box] - bottom
    e = np.abs(x)
    wing = ellipse(e - 0.62 * width, y + 0.043, 0.44 * width, 0.052)
    outer = stroke((wing - 1) * 0.044, 0.009, pixel) * slope(e, 0.70 * width, width) * slope(y, -0.10, -0.04)
    outer += 0.9 * blob(x, y - 0.006, 0.95 * width, 0.040)
    canvas.paint(box, 0.50 * outer, head.lit(box, dark))
    from_nostril = e - 0.46 * width
    nostril = ellipse(from_nostril, y + 0.012 - 0.16 * from_nostril, 0.27 * width, 0.015)
    canvas.paint(box, 0.82 * inside((1 - nostril) * 0.018, pixel * 1.2), head.lit(box, scaled(dark, 0.62)))
    canvas.paint(box, 0.30 * blob(x - 0.03 * geometry.light[0], y + 0.075, 0.040, 0.036), (1.0, 0.97, 0.93))


def paint_folds(head: Head) -> None:
    """Paints the blush, the folds beside the mouth, and wrinkles on an old forehead."""
    canvas, factors, geometry = head.canvas, head.factors, head.geometry
    skin = skin_color(factors)
    dark = (skin[0] * 0.68, skin[1] * 0.52, skin[2] * 0.50)
    grin, old = max(factors.smile, 0.0), signs_of_age(factors)

    center, middle = 0.285, 0.245 - 0.04 * grin
    box = head.box(-center - 0.16, middle - 0.14, center + 0.16, middle + 0.14)
    spot = blob(np.abs(head.u[box]) - center, head.y[box] - middle, 0.16, 0.135)
    rose = (min(skin[0] * 1.03, 1.0), skin[1] * 0.70, skin[2] * 0.70)
    canvas.paint(box, (0.10 + 0.62 * factors.blush) * spot, head.lit(box, rose))

    top, bottom = geometry.nose_y - 0.05, geometry.mouth_y + 0.05
    box = head.box(-0.40, top - 0.05, 0.40, bottom + 0.06)
    down = (head.y[box] - top) * (1 / (bottom - top))
    start, end = geometry.nose_width + 0.020, geometry.mouth_width + 0.052
    path = start + (end - start) * down * (1.55 - 0.55 * down)
    fold = stroke(np.abs(head.u[box]) - path, 0.011, canvas.pixel + 0.022)
    fold *= slope(down, -0.1, 0.25) * slope(down, 1.05, 0.55)
    canvas.paint(box, min(0.06 + 0.40 * grin + 0.62 * old, 0.80) * fold, head.lit(box, dark))

    if old > 0:
        box = head.box(-0.27, geometry.hairline_y + 0.04, 0.27, geometry.brow_y - 0.03)
        u, y = head.u[box], head.y[box]
        bend = geometry.hairline_y + 0.35 * u * u - y
        span = geometry.brow_y - geometry.hairline_y
        pixel = head.pixel * 1.3
        wrinkles = stroke(bend + 0.36 * span, 0.006, pixel) + stroke(bend + 0.66 * span, 0.006, pixel)
        canvas.paint(box, 0.75 * old * wrinkles * slope(np.abs(u), 0.25, 0.10), head.lit(box, dark))
