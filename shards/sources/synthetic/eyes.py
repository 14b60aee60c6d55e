"""Eyes and brows. Both sides are painted at once, in coordinates mirrored at the middle of the face."""

from __future__ import annotations

import numpy as np

from shards.sources.synthetic.canvas import (
    Array,
    Box,
    blob,
    ellipse,
    inside,
    mix,
    plane,
    ramp,
    scaled,
    slope,
    stroke,
)
from shards.sources.synthetic.geometry import signs_of_age
from shards.sources.synthetic.head import Head
from shards.sources.synthetic.palette import hair_color, iris_color, skin_color

_WHITE = (0.965, 0.950, 0.940)
_LASH = (0.120, 0.085, 0.080)


def sink_sockets(head: Head) -> None:
    """Relief of the eye sockets: shade under the brow ridge and beside the bridge of the nose."""
    geometry = head.geometry
    center = geometry.eye_x - 0.01
    box = head.box(-center - 0.21, -0.19, center + 0.21, 0.15)
    x, y = np.abs(head.u[box]) - center, head.y[box]
    head.diffuse[box] -= 0.26 * blob(x, y + 0.025, 0.205, 0.155)
    head.diffuse[box] += 0.10 * blob(x, y - geometry.brow_y - 0.035, 0.17, 0.06)


def paint_eyes(head: Head) -> None:
    """Paints the eyes with lids and lashes. A smile lifts the lower lids."""
    canvas, factors, geometry, pixel = head.canvas, head.factors, head.geometry, head.pixel
    grin, feminine = max(factors.smile, 0.0), max(-factors.presentation, 0.0)
    old = signs_of_age(factors)
    width, height = geometry.eye_width, geometry.eye_height
    edge = geometry.eye_x + 1.70 * width
    box = head.box(-edge, -0.19, edge, 0.17)
    u, y = head.u[box], head.y[box]

    e = (np.abs(u) - geometry.eye_x) * (1 / width)  # -1 at the inner, 1 at the outer corner
    y = y + e * (geometry.eye_tilt * width * 0.5)
    distance = np.abs(e)
    bow = 1 - e * e
    # The upper lid is highest towards the nose, the lower lid lowest towards the ear: an almond, not a lens.
    upper = bow * (e * (0.16 * height) - height)
    lower = bow * (e * 0.20 + 1) * (height * (0.62 - 0.26 * grin))
    over, under = y - upper, lower - y
    opening = inside(np.minimum(over, under), pixel)
    opening *= distance < 1.0

    skin = skin_color(factors)
    fold = stroke(over + (0.36 * height + 0.010), 0.007, pixel) * slope(distance, 1.1, 0.6) * 0.55
    bag = stroke(under + 0.040, 0.009, pixel) * np.maximum(bow, 0)
    fold += (0.10 + 0.16 * grin + 0.75 * old) * bag
    if old + grin > 0:  # crow's feet
        feet = stroke(np.abs(y - 0.004) - 0.026 * (e - 0.6), 0.006, pixel * 1.2)
        fold += (0.55 * old + 0.18 * grin) * feet * slope(e, 1.12, 1.28) * slope(e, 1.68, 1.40)
    canvas.paint(box, fold, head.lit(box, scaled(mix(skin, _LASH, 0.22), 0.80)))

    white = head.lit(box, _WHITE)
    white *= (0.64 + 0.36 * slope(over, 0, 0.7 * height)) * (0.84 + 0.16 * np.maximum(bow, 0))
    canvas.paint(box, opening, white)
    gaze = u + 0.030 * geometry.sin_yaw
    gaze -= np.where(u < 0, np.float32(-geometry.eye_x), np.float32(geometry.eye_x))
    _paint_irises(head, box, opening, gaze, head.y[box] + 0.16 * height)

    line = stroke(under, 0.0055, pixel) * slope(distance, 1.02, 0.7)
    canvas.paint(box, 0.45 * line, head.lit(box, scaled(mix(skin, _LASH, 0.5), 0.8)))
    thickness = (0.0085 + 0.0065 * feminine) * (1 + 0.40 * np.minimum(e, 1))
    lashes = stroke(over + 0.004, thickness, pixel) * slope(distance, 1.14, 0.96)
    if feminine > 0:
        flick = stroke(y - upper * 0.4 + 0.06 * feminine * (e - 0.9), 0.007 * feminine, pixel)
        lashes = np.maximum(lashes, flick * slope(e, 0.88, 1.0) * slope(e, 1.32, 1.08))
    canvas.paint(box, 0.92 * lashes, head.lit(box, _LASH))


def _paint_irises(head: Head, box: Box, opening: Array, x: Array, y: Array) -> None:
    canvas, pixel = head.canvas, head.pixel
    radius = 0.0585 + 0.005 * head.factors.eye_size
    level = ellipse(x, y, radius, radius)
    # Light enters from above and leaves through the lower half of the iris.
    glow = 0.80 + 0.50 * slope(y, -0.3 * radius, radius)
    glow *= 1 - 0.55 * ramp(level, 0.72, 1.0)
    glow *= 1 - 0.92 * inside((0.46 - level) * radius, pixel)
    canvas.paint(box, opening * inside((1 - level) * radius, pixel), plane(iris_color(head.factors)) * glow)
    light_x = head.geometry.light[0]
    shine = ellipse(x - 0.34 * radius * (0.35 + light_x), y + 0.36 * radius, 0.27 * radius, 0.27 * radius)
    gleam = 0.95 * inside((1 - shine) * (0.27 * radius), pixel)
    gleam += 0.35 * blob(x + 0.34 * radius, y - 0.42 * radius, 0.30 * radius, 0.30 * radius)
    canvas.paint(box, opening * gleam, (1.0, 1.0, 1.0))


def paint_brows(head: Head) -> None:
    """Paints the brows: thick towards the nose, tapering outwards."""
    factors, geometry = head.factors, head.geometry
    color = mix(hair_color(factors), (0.16, 0.11, 0.09), 0.33)
    center, width = geometry.eye_x + 0.006, geometry.eye_width * 1.24
    edge = center + 1.15 * width
    box = head.box(-edge, geometry.brow_y - 0.11, edge, geometry.brow_y + 0.11)
    e = (np.abs(head.u[box]) - center) * (1 / width)
    peak = e - 0.20
    peak *= peak
    curve = geometry.brow_arch * (peak * 0.70 - 0.40) + (0.004 - 0.22 * geometry.eye_tilt * width) * e
    curve += 0.020 * max(-factors.smile, 0.0) * np.minimum(e, 1)
    taper = np.clip(0.80 - 0.62 * e, 0.12, 1.02)
    brow = stroke(head.y[box] - geometry.brow_y - curve, geometry.brow_thickness * taper, head.pixel * 1.3)
    brow *= slope(np.abs(e), 1.04, 0.80)
    head.canvas.paint(box, 0.86 * brow, head.lit(box, color))
