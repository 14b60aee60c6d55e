"""Beards and glasses."""

from __future__ import annotations

import numpy as np

from shards.sources.synthetic.canvas import Array, ellipse, inside, mix, ramp, scaled, stroke
from shards.sources.synthetic.head import Head
from shards.sources.synthetic.palette import hair_color, skin_color
from shards.sources.synthetic.texture import streaks


def paint_beard(head: Head) -> None:
    """Paints the beard; the mouth is painted over it."""
    style = head.factors.beard
    if style == "none":
        return
    canvas, geometry = head.canvas, head.geometry
    box = canvas.box(-head.radius - 0.12, -0.06, head.radius + 0.12, geometry.chin_y + 0.12)
    u, y, outline = head.u[box], head.y[box], head.level[box]
    hair = scaled(mix(hair_color(head.factors), (0.20, 0.13, 0.10), 0.22), 0.92)
    cover = _moustache(head, u, y)
    if style in ("full", "stubble"):
        cover = np.maximum(cover, _cheek_beard(head, u, y))
    if style == "goatee":
        cover = np.maximum(cover, _chin_beard(head, u, y))
    # A full beard stands out from the jaw, the others end with it.
    cover *= inside((1.075 - outline) * 0.6, canvas.pixel * 1.5) if style == "full" else head.cover[box]
    if style == "stubble":
        canvas.paint(box, 0.30 * cover, head.lit(box, mix(hair, skin_color(head.factors), 0.10)))
        return
    strands = streaks(u / (0.75 - 0.5 * y) * 16.0, canvas.pixel * 28.0)
    texture = 1.0 + 0.16 * strands - 0.16 * ramp(outline, 0.90, 1.06)
    canvas.paint(box, 0.93 * cover, head.lit(box, hair) * texture)


def _softness(head: Head) -> float:
    return head.canvas.pixel + 0.035


def _cheek_beard(head: Head, u: Array, y: Array) -> Array:
    """From the sideburns along the jaw to the chin, below an ellipse that leaves cheeks and nose free."""
    geometry = head.geometry
    free = ellipse(u, np.minimum(y - 0.14, 0.40), 0.87 * geometry.half_width, geometry.mouth_y - 0.22)
    return ramp(free, 0.92, 1.10) * ramp(y, -0.04, 0.20)


def _chin_beard(head: Head, u: Array, y: Array) -> Array:
    """A patch on the chin and a ring around the mouth."""
    geometry, soft = head.geometry, _softness(head)
    patch = ellipse(u - 0.03 * geometry.sin_yaw, y - (geometry.chin_y - 0.065), 0.185, 0.155)
    ring = ellipse(u, y - geometry.mouth_y - 0.02, geometry.mouth_width * 1.16, 0.16)
    side = inside(0.030 - np.abs(ring - 1) * 0.17, soft) * ramp(y, geometry.mouth_y - 0.06, geometry.mouth_y)
    return np.maximum(inside((1 - patch) * 0.15, soft), side)


def _moustache(head: Head, u: Array, y: Array) -> Array:
    """Above the upper lip; it follows the smile."""
    geometry = head.geometry
    width = geometry.mouth_width * 1.10
    e = (u - 0.05 * geometry.sin_yaw) * (1 / width)
    middle = -geometry.corner_lift * (np.minimum(e * e, 1.6) - 0.30) + 0.05 * np.maximum(np.abs(e) - 0.35, 0)
    lip = geometry.mouth_y + middle - geometry.lip_upper * np.maximum(1 - e * e, 0) * 0.85 - geometry.mouth_gap * 0.5
    thickness = 0.034 * (1.15 - 0.75 * np.clip(e * e, 0, 1)) * (1 - 0.35 * np.maximum(1 - e * e * 40, 0))
    return inside(thickness - np.abs(y - (lip - 0.020)), _softness(head)) * ramp(np.abs(e), 1.14, 0.92)


def paint_glasses(head: Head) -> None:
    """Paints frame, bridge, temples and a glint on the lenses."""
    style = head.factors.glasses
    if style == "none":
        return
    canvas, geometry = head.canvas, head.geometry
    color = (0.10, 0.085, 0.09) if style == "square" else (0.30, 0.17, 0.10)
    thickness = 0.017 if style == "square" else 0.014
    # The frame sits in front of the eyes: a turn moves it a little more than the eyes.
    shift = 0.05 * geometry.sin_yaw
    radius_x, radius_y = (0.172, 0.120) if style == "square" else (0.158, 0.146)
    lens_x = max(geometry.eye_x, radius_x + 0.045)
    middle = 0.012
    edge = lens_x + radius_x + 0.06
    box = head.box(shift - edge, -0.22, shift + edge, 0.25)
    u, y = head.u[box] - shift, head.y[box] - middle
    x = np.abs(u) - lens_x
    level = _rounded(x, y, radius_x, radius_y) if style == "square" else ellipse(x, y, radius_x, radius_y)
    lens = inside((1 - level) * radius_y, head.pixel)
    canvas.multiply(box, 0.16 * lens, (0.70, 0.76, 0.82))
    glint = np.where(u < 0, -x, x) + 0.8 * y + (0.05 + 0.05 * geometry.light[0])
    glare = stroke(glint, 0.020, head.pixel) + 0.7 * stroke(glint - 0.055, 0.008, head.pixel)
    canvas.paint(box, 0.20 * lens * np.minimum(glare, 1), (1.0, 1.0, 1.0))
    canvas.paint(box, 0.95 * stroke((level - 1) * radius_y, thickness, head.pixel), color)
    inner = lens_x - radius_x
    box = head.box(shift - inner - 0.02, -0.12, shift + inner + 0.02, 0.06)
    x, y = head.u[box] - shift, head.y[box] - middle
    arc = stroke(y + 0.050 - 4.0 * x * x, thickness, canvas.pixel) * (np.abs(x) < inner + 0.004)
    canvas.paint(box, 0.95 * arc, color)
    box = canvas.box(-head.radius - 0.02, -0.12, head.radius + 0.02, 0.06)
    u, y = np.abs(head.u[box] - shift), head.y[box] - middle
    outer = lens_x + radius_x
    temple = stroke(y + 0.045 - 0.10 * (u - outer), thickness * 0.9, canvas.pixel) * head.cover[box]
    temple *= inside(np.minimum(u - outer, geometry.half_width * 1.02 - u), canvas.pixel)
    canvas.paint(box, 0.9 * temple, color)


def _rounded(x: Array, y: Array, radius_x: float, radius_y: float) -> Array:
    """Level of a superellipse of degree four."""
    across, down = x * (1 / radius_x), y * (1 / radius_y)
    across *= across
    down *= down
    return np.sqrt(np.sqrt(across * across + down * down))
