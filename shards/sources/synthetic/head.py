"""The head as an elliptic cylinder under one light: outline, coordinates on the turned face, skin, neck and ears."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shards.sources.synthetic.canvas import Array, Box, Canvas, Color, blob, ellipse, inside, plane, ramp, scaled
from shards.sources.synthetic.factors import Factors
from shards.sources.synthetic.geometry import Geometry
from shards.sources.synthetic.palette import clothes_color, skin_color

_DEPTH = 1.02
"""Front-to-back half axis of the head, in half widths."""
CROWN_SQUARE = 0.40
"""Weight of the quartic term in the outline of the skull; 0 is an egg."""
_AMBIENT = 0.54
_DIFFUSE = 0.56


@dataclass
class Head:
    """A head placed on a canvas, and what every feature needs to know.

    Attributes:
        u: Frontal coordinate of each pixel on the turned face: a feature at u is drawn as if seen from the front,
            and the turn moves and narrows it. Beyond the ears it keeps growing over the back of the head.
        level: Outline of the head: below 1 inside.
        cover: Coverage of the head, 0 to 1.
        diffuse: Light that falls on the surface, about 0 to 1; reliefs change it before the skin is painted.
        light: Brightness of each pixel under this light, about 0.5 to 1.1; set when the skin is painted.
    """

    canvas: Canvas
    factors: Factors
    geometry: Geometry
    radius: float
    turn_cos: float
    turn_sin: float
    u: Array
    y: Array
    level: Array
    cover: Array
    diffuse: Array
    light: Array

    def x_at(self, u: float) -> float:
        """Head coordinate x at which the frontal coordinate u is seen."""
        sine = min(max(u / self.geometry.half_width, -1.0), 1.0)
        return self.radius * (sine * self.turn_cos + math.sqrt(1 - sine * sine) * self.turn_sin)

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Pixels that hold a rectangle given in (u, y)."""
        return self.canvas.box(self.x_at(left), top, self.x_at(right), bottom)

    @property
    def pixel(self) -> float:
        """Size of a pixel on the front of the face: wider than on the canvas when the head is turned."""
        return self.canvas.pixel * (1 + self.geometry.half_width / (self.radius * self.turn_cos)) / 2

    def lit(self, box: Box, color: Color) -> Array:
        """A color under the light of the place: float32 (3, rows, columns)."""
        return shade(self.light[box], color)


def shade(light: Array, color: Color) -> Array:
    """A color under a light; shadows keep more red than blue, as they do on skin."""
    red, green, blue = color
    shaded = light * plane((0.86 * red, 1.04 * green, 1.10 * blue))
    shaded += plane((0.14 * red, -0.04 * green, -0.10 * blue))
    return shaded


def quartic(t: Array, weight: float) -> Array:
    """Blend of t^2 and t^4: an ellipse turns into a fuller oval as the weight grows from 0 to 1."""
    square = t * t
    return square * (square * weight + (1 - weight))


def place_head(canvas: Canvas, factors: Factors, geometry: Geometry) -> Head:
    """Computes the outline, the face coordinates and the light on the bare head; paints nothing.

    A point of the cylinder at angle t from the front has u = w sin t; turned by the yaw it is seen at
    x = w sin t cos(yaw) + d cos t sin(yaw) = r sin(t + phi), which is solved for u in closed form.
    """
    width, depth = geometry.half_width, geometry.half_width * _DEPTH
    across, along = width * math.cos(geometry.yaw_rad), depth * geometry.sin_yaw
    radius = math.hypot(across, along)
    turn_cos, turn_sin = across / radius, along / radius

    y = canvas.y
    low = np.clip(y * (1 / geometry.chin_y), 0, 1.6)
    low_squared = low * low
    high = np.minimum(y, 0) * (1 / geometry.crown_y)
    x = canvas.x - geometry.chin_shift * low_squared
    narrow = x / (radius * (1 - geometry.jaw_taper * low_squared))
    rise = quartic(high, CROWN_SQUARE) + quartic(low, geometry.jaw_square)
    level = np.sqrt(narrow * narrow + rise)
    cover = inside((1 - level) * 0.6, canvas.pixel)

    sine = np.clip(canvas.x * (1 / radius), -1, 1)
    cosine = np.sqrt(1 - sine * sine)
    u = (sine * turn_cos - cosine * turn_sin) * width
    behind = cosine * turn_cos + sine * turn_sin < 0
    u = np.where(behind, np.where(u < 0, np.float32(-2 * width), np.float32(2 * width)) - u, u)
    u += (canvas.x - sine * radius) * 3.0  # u keeps growing beside the head, so that hair covers that area

    light_x, light_y, light_z = geometry.light
    normal_x = np.clip(narrow, -1, 1)
    normal_y = np.clip(low * 0.75 - high * 0.9, -1, 1)
    normal_z = np.sqrt(np.maximum(1 - normal_x * normal_x - normal_y * normal_y, 0.0))
    diffuse = normal_x * light_x + normal_y * light_y + normal_z * light_z
    return Head(canvas, factors, geometry, radius, turn_cos, turn_sin, u, y, level, cover, diffuse, diffuse)


def paint_skin(head: Head) -> None:
    """Paints the head, once every relief has changed the light on it."""
    light = np.maximum(head.diffuse + 0.32, 0) * (_DIFFUSE / 1.32)
    light += _AMBIENT
    # Skin darkens where it turns away from the viewer; without it the head looks cut out of paper.
    light -= 0.16 * ramp(head.level, 0.72, 1.04)
    head.light = light
    canvas = head.canvas
    box = canvas.box(-head.radius - 0.1, head.geometry.crown_y, head.radius + 0.1, head.geometry.chin_y)
    canvas.paint(box, head.cover[box], head.lit(box, skin_color(head.factors)))


def paint_body(head: Head) -> None:
    """Paints neck and shoulders, before the head."""
    canvas, geometry, factors = head.canvas, head.geometry, head.factors
    box = canvas.box(-2.0, 0.30, 2.0, 2.0)
    x, y, level = canvas.x[box], canvas.y[box], head.level[box]
    side = np.clip(x * geometry.light[0] * 0.5, -0.16, 0.16)

    x = x - 0.3 * geometry.chin_shift
    flare = np.maximum(y - 0.62, 0)
    flare *= flare
    neck = inside(geometry.neck + 0.55 * flare - np.abs(x), canvas.pixel)
    under_chin = 1 - ramp(level, 0.95, 1.42)
    canvas.paint(box, neck, shade(0.86 + side - 0.34 * under_chin, skin_color(factors)))

    collar = ellipse(x, y - 0.64, geometry.neck + 0.10, 0.255)
    shoulders = ellipse(x, y - 1.22, 0.98, 0.52 + 0.03 * factors.presentation)
    wide = inside((1 - shoulders) * 0.5, canvas.pixel)
    wide *= inside((collar - 1) * 0.3, canvas.pixel)
    rim = 0.16 * np.maximum(1.16 - collar, 0) * 6
    canvas.paint(box, wide, shade(0.92 + side - np.minimum(rim, 0.16) - 0.10 * under_chin, clothes_color(factors)))


def paint_ears(head: Head) -> None:
    """Paints the ears; the one on the far side disappears behind the head."""
    canvas, geometry, factors = head.canvas, head.geometry, head.factors
    height = 0.135 * (1 + 0.30 * factors.ear_size)
    width = 0.062 * (1 + 0.34 * factors.ear_size)
    for side in (-1.0, 1.0):
        turned = -side * geometry.sin_yaw
        center_x = side * (geometry.half_width * math.cos(geometry.yaw_rad) + 0.012) - 0.04 * geometry.sin_yaw
        center_y = 0.06
        box = canvas.box(center_x - 0.14, center_y - 0.25, center_x + 0.14, center_y + 0.25)
        x, y = (canvas.x[box] - center_x) * side, canvas.y[box] - center_y
        x = x + 0.16 * y  # ears lean back
        near = 1 + 0.7 * max(turned, 0.0)
        level = ellipse(x, y, width * near, height)
        hidden = head.cover[box] * (1 - min(max(turned * 4, 0.0), 1.0))
        cover = inside((1 - level) * width, canvas.pixel) * (1 - hidden)
        light = 0.86 + 0.20 * side * geometry.light[0] - 0.10 * ramp(level, 0.5, 1.0)
        hollow = blob(x - 0.1 * width, y + 0.1 * height, 0.75 * width * near, 0.70 * height)
        canvas.paint(box, cover, shade(light - 0.24 * hollow, scaled(skin_color(factors), 0.98)))
