"""A float canvas in head coordinates, and anti-aliased coverage from implicit functions.

Pixel arithmetic uses only operations that IEEE 754 rounds exactly (no exp, sin or pow per pixel), so that a picture
does not depend on the machine's vector unit.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Box = tuple[slice, slice]
Color = tuple[float, float, float]


@lru_cache(maxsize=8)
def pixel_centers(size: int) -> Array:
    """Pixel centers of a picture that spans [-1, 1]: float32 of shape (size,)."""
    return ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2.0 / size)) - np.float32(1.0)


class Pose(NamedTuple):
    """Where the head lies in the frame: ``frame = shift + scale * rotation(roll) * head``; the frame spans [-1, 1]."""

    shift_x: float
    shift_y: float
    scale: float
    roll_rad: float


class Canvas:
    """An RGB picture under construction.

    Attributes:
        image: float32 (3, size, size), sRGB values in about [0, 1].
        x: float32 (size, size), head coordinate to the right, 0 between the eyes.
        y: float32 (size, size), head coordinate downwards, 0 at the eyes.
        pixel: Width of a pixel in head units.
    """

    def __init__(self, size: int, pose: Pose) -> None:
        self.size = size
        self.pose = pose
        self.pixel = 2.0 / size / pose.scale
        self._cos = pose.scale * math.cos(pose.roll_rad)
        self._sin = pose.scale * math.sin(pose.roll_rad)
        self.image = np.empty((3, size, size), np.float32)
        centers = pixel_centers(size)
        cos, sin = math.cos(pose.roll_rad) / pose.scale, math.sin(pose.roll_rad) / pose.scale
        across, down = centers - np.float32(pose.shift_x), centers - np.float32(pose.shift_y)
        self.x = (across * np.float32(cos))[None, :] + (down * np.float32(sin))[:, None]
        self.y = (down * np.float32(cos))[:, None] - (across * np.float32(sin))[None, :]

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Rows and columns of the picture that hold a rectangle of head coordinates, one pixel of margin included."""
        cos, sin = self._cos, self._sin
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        radius_x, radius_y = (right - left) / 2, (bottom - top) / 2
        center_x = self.pose.shift_x + middle_x * cos - middle_y * sin
        center_y = self.pose.shift_y + middle_x * sin + middle_y * cos
        columns = self._span(center_x, radius_x * cos + radius_y * abs(sin))
        return self._span(center_y, radius_y * cos + radius_x * abs(sin)), columns

    def _span(self, center: float, radius: float) -> slice:
        half = self.size / 2
        start = min(max(int((center - radius + 1) * half - 1), 0), self.size)
        return slice(start, max(min(int((center + radius + 1) * half + 2), self.size), start))

    def paint(self, box: Box, alpha: Array, color: Array | Color) -> None:
        """Lays a color over the picture.

        Args:
            box: Where.
            alpha: Coverage in [0, 1], the shape of the box.
            color: One color, or an array (3, rows, columns).
        """
        target = self.image[:, box[0], box[1]]
        difference = plane(color) - target
        difference *= alpha
        target += difference

    def multiply(self, box: Box, strength: Array, color: Color) -> None:
        """Darkens towards ``picture * color`` where ``strength`` (0 to 1, the shape of the box) says so."""
        target = self.image[:, box[0], box[1]]
        target *= 1 - strength * plane((1 - color[0], 1 - color[1], 1 - color[2]))

    def to_uint8(self) -> Array:
        """The finished picture: uint8 (size, size, 3), rounded to nearest."""
        scaled = self.image * 255
        scaled += 0.5
        unit_range(scaled, 255)
        return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def plane(color: Array | Color) -> Array:
    """A color, shaped to broadcast over (3, rows, columns)."""
    return color if isinstance(color, np.ndarray) else _plane(color)


@lru_cache(maxsize=256)
def _plane(color: Color) -> Array:
    return np.array(color, np.float32).reshape(3, 1, 1)


def inside(distance: Array, pixel: float) -> Array:
    """Coverage of a pixel by the region where a distance, in head units, is positive: one pixel of linear ramp."""
    cover = distance * (1 / pixel)
    cover += 0.5
    return unit_range(cover)


def stroke(distance: Array, half_width: Array | float, pixel: float) -> Array:
    """Coverage by a line around the zeros of a distance; one thinner than a pixel keeps its weight, not its width."""
    cover = inside(half_width - np.abs(distance), pixel)
    cover *= np.minimum(half_width * (2 / pixel), 1)
    return cover


def ellipse(x: Array, y: Array, radius_x: float, radius_y: float) -> Array:
    """Level of an ellipse: 0 at its center, 1 on its rim."""
    across, down = x * (1 / radius_x), y * (1 / radius_y)
    across *= across
    down *= down
    across += down
    return np.sqrt(across, out=across)


def blob(x: Array, y: Array, radius_x: float, radius_y: float) -> Array:
    """A soft spot: ``(1 - r^2)^2`` inside the ellipse, 0 outside."""
    across, down = x * (1 / radius_x), y * (1 / radius_y)
    across *= across
    down *= down
    across += down
    fall = np.maximum(1 - across, 0)
    fall *= fall
    return fall


def ramp(values: Array, start: float, end: float) -> Array:
    """Smoothstep from 0 at ``start`` to 1 at ``end``; ``start`` may be larger."""
    t = slope(values, start, end)
    smooth = t * -2
    smooth += 3
    smooth *= t
    smooth *= t
    return smooth


def slope(values: Array, start: float, end: float) -> Array:
    """Straight from 0 at ``start`` to 1 at ``end``; cheaper than ``ramp`` where its corners do not show."""
    scale = 1 / (end - start)
    t = values * scale
    t -= start * scale
    return unit_range(t)


def unit_range(values: Array, high: float = 1.0) -> Array:
    """Clips to [0, high] in place; on small arrays two ufuncs take half the time of ``np.clip``."""
    np.maximum(values, 0, out=values)
    return np.minimum(values, high, out=values)


def mix(first: Color, second: Color, amount: float) -> Color:
    """A color between two."""
    a, b = first, second
    return (a[0] + (b[0] - a[0]) * amount, a[1] + (b[1] - a[1]) * amount, a[2] + (b[2] - a[2]) * amount)


def scaled(color: Color, amount: float) -> Color:
    """A color made darker (below 1) or lighter (above 1)."""
    return (color[0] * amount, color[1] * amount, color[2] * amount)
