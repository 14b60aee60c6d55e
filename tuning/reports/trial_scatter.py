"""Scatter charts of trials, drawn once as shapes and then written as SVG, whose points are links, or as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.drawing import svg

WIDTH, HEIGHT = 560, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 22, 34, 48
_RADIUS = 5
_SHARPNESS = 2
"""Pixels of a picture for each unit of the SVG; shapes are smoothed by drawing them twice as large."""
_CHARACTER, _LINE = 6.6, 13
"""Size of the labels' text."""
_COLORS = {
    "ink": (36, 41, 47),
    "soft": (107, 114, 128),
    "rule": (217, 221, 227),
    "c0": (37, 99, 201),
    "c7": (82, 82, 91),
}
_LOG_RATIO = 20
"""Numbers that span more than this ratio get a logarithmic axis."""


@dataclass(frozen=True)
class Axis:
    """One direction of a chart."""

    title: str
    values: Sequence[float]
    """One per point."""


@dataclass(frozen=True)
class Mark:
    """One point."""

    label: str
    link: str = ""
    """Where a click leads, in SVG."""
    strong: bool = True


@dataclass(frozen=True)
class _Scale:
    ticks: list[float]
    low: float
    high: float
    log: bool

    def share(self, values: Sequence[float]) -> np.ndarray:
        """Where values lie between the ends, 0 to 1."""
        numbers = np.asarray(values, float)
        return (self._transform(numbers) - self._transform(self.low)) / (
            self._transform(self.high) - self._transform(self.low)
        )

    def _transform(self, values: np.ndarray | float) -> np.ndarray:
        return np.log10(values) if self.log else np.asarray(values)


@dataclass(frozen=True)
class Scatter:
    """A chart as shapes in units of the SVG."""

    title: str
    lines: list[tuple[float, float, float, float, str]]
    dots: list[tuple[float, float, Mark]]
    texts: list[tuple[float, float, str, str, str]]
    """x, y of the baseline, text, anchor (start, middle, end), color."""
    path: list[tuple[float, float]]
    """Points of the line that is drawn through some of the marks."""

    def to_svg(self) -> str:
        """An SVG document in the style of the reports."""
        body = [f'<path class="rule" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>' for x0, y0, x1, y1, _ in self.lines]
        if len(self.path) > 1:
            x, y = np.array(self.path).T
            body.append(svg.polyline(x, y, "faint", "c0"))
        for x, y, mark in self.dots:
            color = "c0" if mark.strong else "c7"
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="var(--{color})"'
            dot = f"<circle {place}><title>{escape(mark.label)}</title></circle>"
            body.append(f'<a href="{escape(mark.link)}">{dot}</a>' if mark.link else dot)
        body += [svg.text(x, y, text, anchor, color == "ink") for x, y, text, anchor, color in self.texts]
        return svg.document(WIDTH, HEIGHT, self.title, body)

    def to_picture(self) -> Image.Image:
        """RGB, two pixels for each unit."""
        scale = 2 * _SHARPNESS
        image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
        draw = ImageDraw.Draw(image)
        for x0, y0, x1, y1, color in self.lines:
            draw.line((x0 * scale, y0 * scale, x1 * scale, y1 * scale), _COLORS[color], scale)
        if len(self.path) > 1:
            draw.line([(x * scale, y * scale) for x, y in self.path], (168, 193, 237), round(1.5 * scale))
        for x, y, mark in self.dots:
            box = [(place + side * _RADIUS) * scale for side in (-1, 1) for place in (x, y)]
            draw.ellipse(box, _COLORS["c0" if mark.strong else "c7"])
        font = ImageFont.load_default(12 * scale)
        for x, y, text, anchor, color in self.texts:
            place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
            draw.text((x * scale, y * scale), text, _COLORS[color], font, anchor=place)
        return image.resize((WIDTH * _SHARPNESS, HEIGHT * _SHARPNESS), Image.Resampling.LANCZOS)


def scatter(title: str, x: Axis, y: Axis, marks: Sequence[Mark], front: Sequence[int] = ()) -> Scatter:
    """Draws points with their labels.

    Args:
        title: What a screen reader says.
        x: To the right.
        y: Upwards.
        marks: What the points are.
        front: Positions of points that a line is drawn through, in order.
    """
    across, up = _scale(x.values), _scale(y.values)
    xs = _LEFT + across.share(x.values) * (WIDTH - _LEFT - _RIGHT)
    ys = HEIGHT - _BOTTOM - up.share(y.values) * (HEIGHT - _TOP - _BOTTOM)
    lines, texts = [], []
    for tick in up.ticks:
        place = float(HEIGHT - _BOTTOM - up.share([tick])[0] * (HEIGHT - _TOP - _BOTTOM))
        lines.append((_LEFT, place, WIDTH - _RIGHT, place, "rule"))
        texts.append((_LEFT - 8, place + 4, svg.short(tick), "end", "soft"))
    for tick in across.ticks:
        place = float(_LEFT + across.share([tick])[0] * (WIDTH - _LEFT - _RIGHT))
        texts.append((place, HEIGHT - _BOTTOM + 18, svg.short(tick), "middle", "soft"))
    texts.append((_LEFT, 14, y.title, "start", "ink"))
    texts.append((WIDTH - _RIGHT, HEIGHT - 8, x.title, "end", "ink"))
    dots = [(float(px), float(py), mark) for px, py, mark in zip(xs, ys, marks, strict=True)]
    texts += _labels(dots)
    return Scatter(title, lines, dots, texts, [(float(xs[n]), float(ys[n])) for n in front])


def _scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    log = low > 0 and high / low > _LOG_RATIO
    ticks = svg.log_ticks(low, high) if log else svg.linear_ticks(low, high)
    return _Scale(ticks, min(low, ticks[0]), max(high, ticks[-1]), log)


def _labels(dots: Sequence[tuple[float, float, Mark]]) -> list[tuple[float, float, str, str, str]]:
    """A label for each point, at the first place around it where it covers no other label and no point."""
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y, _ in dots]
    placed = []
    for x, y, mark in dots:
        width = _CHARACTER * len(mark.label)
        options = [
            (x + 9, y + 4, "start"),
            (x - 9, y + 4, "end"),
            (x, y - 9, "middle"),
            (x, y + 18, "middle"),
            (x + 7, y - 8, "start"),
            (x + 7, y + 16, "start"),
            (x - 7, y - 8, "end"),
            (x - 7, y + 16, "end"),
        ]
        boxes = [_box(left, base, width, anchor) for left, base, anchor in options]
        free = [n for n, box in enumerate(boxes) if _is_inside(box) and not any(_overlap(box, b) for b in taken)]
        if free:  # A label without room is left out; the point's own title says it.
            taken.append(boxes[free[0]])
            left, base, anchor = options[free[0]]
            placed.append((left, base, mark.label, anchor, "soft"))
    return placed


def _box(x: float, base: float, width: float, anchor: str) -> tuple[float, float, float, float]:
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return (left, base - _LINE + 3, left + width, base + 2)


def _is_inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= _TOP and box[3] <= HEIGHT - _BOTTOM


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
