"""The mouth: lips, teeth and the dark between them, along a curve whose corners the smile lifts."""

from __future__ import annotations

import numpy as np

from shards.sources.synthetic.canvas import Array, Box, blob, inside, ramp, scaled, slope, stroke
from shards.sources.synthetic.head import Head
from shards.sources.synthetic.palette import lip_color, skin_color


def paint_mouth(head: Head) -> None:
    """Paints the mouth with its shadow and corners."""
    canvas, factors, geometry, pixel = head.canvas, head.factors, head.geometry, head.pixel
    width, gap = geometry.mouth_width, geometry.mouth_gap
    shift, reach = 0.04 * geometry.sin_yaw, 0.16 + gap
    box = head.box(shift - 1.25 * width, geometry.mouth_y - reach, shift + 1.25 * width, geometry.mouth_y + reach)
    e = (head.u[box] - shift) * (1 / width)
    y = head.y[box] - geometry.mouth_y
    square, distance = np.minimum(e * e, 1.6), np.abs(e)
    bow = 1 - square
    within = distance < 1.0
    # The middle sinks a little as the corners rise, as a real mouth does.
    middle = (square - 0.30) * -geometry.corner_lift
    upper_edge, lower_edge = middle - gap * 0.75 * bow, middle + gap * 1.25 * bow
    top = upper_edge - geometry.lip_upper * bow * (1 + 0.35 * square)
    top += geometry.lip_upper * 0.30 * np.maximum(1 - square * 22, 0)  # Cupid's bow
    bottom = lower_edge + geometry.lip_lower * bow * (1 - 0.15 * square)

    skin, lips = skin_color(factors), lip_color(factors)
    shadow = 0.40 * blob(e, y - middle - gap * 1.25 - geometry.lip_lower * 1.25, 0.62, 0.034)
    shadow += 0.66 * blob(distance - 1.02, y + 0.70 * geometry.corner_lift, 0.16, 0.030)
    canvas.paint(box, shadow, head.lit(box, scaled(skin, 0.62)))
    upper_lip = inside(np.minimum(y - top, upper_edge - y), pixel) * within
    canvas.paint(box, 0.92 * upper_lip, head.lit(box, scaled(lips, 0.86)))
    lower_lip = inside(np.minimum(y - lower_edge, bottom - y), pixel) * within
    canvas.paint(box, 0.92 * lower_lip, head.lit(box, lips))
    half = 0.40 * geometry.lip_lower
    shine = blob(e - 0.14 * geometry.light[0], y - lower_edge - half, 0.42, half)
    canvas.paint(box, (0.26 + 0.12 * factors.lipstick) * shine * lower_lip, (1.0, 0.93, 0.90))
    if gap > 0:
        hole = inside(np.minimum(y - upper_edge, lower_edge - y), pixel) * within
        _paint_inside(head, box, hole, upper_edge - y, bow, distance)
    seam = stroke(y - upper_edge, 0.0065, pixel) * slope(distance, 1.10, 0.92)
    canvas.paint(box, (0.85 - 0.40 * min(gap / 0.006, 1.0)) * seam, head.lit(box, scaled(lips, 0.52)))


def _paint_inside(head: Head, box: Box, hole: Array, below_lip: Array, bow: Array, distance: Array) -> None:
    """The dark of the mouth, and the upper teeth, of which a smile shows more."""
    canvas, grin = head.canvas, max(head.factors.smile, 0.0)
    canvas.paint(box, hole, (0.24, 0.07, 0.08))
    height = bow * (head.geometry.mouth_gap * (0.55 + 1.30 * grin))
    teeth = hole * inside(below_lip + height, head.pixel) * ramp(distance, 0.98, 0.70)
    enamel = head.lit(box, (0.97, 0.955, 0.93))
    enamel *= 1 - 0.30 * slope(distance, 0.35, 0.95)
    canvas.paint(box, teeth, enamel)
