"""Scatter charts of trials, as SVG whose points are links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from eval.drawing import svg

WIDTH, HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 32, 54, 48
_RADIUS = 5
_CHARACTER, _LINE = 6.6, 13
"""Size of the labels' text."""
_LOG_RATIO = 20
"""Numbers that span more than this ratio get a logarithmic axis."""


@dataclass(frozen=True)
class Quantity:
    """What one direction of a chart shows."""

    title: str
    values: Sequence[float]
    """One per point."""


@dataclass(frozen=True)
class Mark:
    """One point."""

    label: str
    link: str = ""
    """Where a click leads."""
    strong: bool = True


@dataclass(frozen=True)
class Legend:
    """Explains the points of a chart."""

    labels: str
    """What their labels are."""
    strong: str
    """Which ones are blue."""
    weak: str
    """Which ones are gray."""


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


def scatter(
    title: str, x: Quantity, y: Quantity, marks: Sequence[Mark], legend: Legend, front: Sequence[int] = ()
) -> str:
    """An SVG document with a point for each trial, and labels where there is room.

    Args:
        title: What a screen reader says.
        x: To the right.
        y: Upwards.
        marks: The points.
        legend: Explains them; colors only where there are two.
        front: Positions of points that a line is drawn through, in order.
    """
    across, up = _scale(x.values), _scale(y.values)
    xs = _LEFT + across.share(x.values) * (WIDTH - _LEFT - _RIGHT)
    ys = HEIGHT - _BOTTOM - up.share(y.values) * (HEIGHT - _TOP - _BOTTOM)
    body = []
    for tick in up.ticks:
        place = float(HEIGHT - _BOTTOM - up.share([tick])[0] * (HEIGHT - _TOP - _BOTTOM))
        body.append(f'<path class="rule" d="M{_LEFT} {place:.1f}H{WIDTH - _RIGHT}"/>')
        body.append(svg.text(_LEFT - 8, place + 4, svg.short(tick), "end"))
    for tick in across.ticks:
        place = float(_LEFT + across.share([tick])[0] * (WIDTH - _LEFT - _RIGHT))
        body.append(svg.text(place, HEIGHT - _BOTTOM + 18, svg.short(tick), "middle"))
    if len(front) > 1:
        body.append(svg.polyline(xs[list(front)], ys[list(front)], "faint", "c0"))
    places = list(zip(xs.tolist(), ys.tolist(), strict=True))
    body += [_dot(*place, mark) for place, mark in zip(places, marks, strict=True)]
    body.append(svg.text(_LEFT, 14, y.title, "start", ink=True))
    body.append(svg.text(WIDTH - _RIGHT, HEIGHT - 8, x.title, "end", ink=True))
    body += _explanation(legend, {mark.strong for mark in marks})
    body += _labels(places, [mark.label for mark in marks])
    return svg.document(WIDTH, HEIGHT, title, body)


def _explanation(legend: Legend, colors: set[bool]) -> list[str]:
    """The legend, above the chart."""
    x, parts = float(_LEFT), [svg.text(WIDTH - _RIGHT, 14, legend.labels, "end")]
    for strong, meaning in ((True, legend.strong), (False, legend.weak)):
        if len(colors) > 1:
            parts += [f"<circle {_place(x + _RADIUS, 32, strong)}/>", svg.text(x + 2 * _RADIUS + 5, 36, meaning)]
            x += 2 * _RADIUS + 21 + _CHARACTER * len(meaning)
    return parts


def _dot(x: float, y: float, mark: Mark) -> str:
    dot = f"<circle {_place(x, y, mark.strong)}><title>{escape(mark.label)}</title></circle>"
    return f'<a href="{escape(mark.link)}">{dot}</a>' if mark.link else dot


def _place(x: float, y: float, strong: bool) -> str:
    return f'cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="var(--{"c0" if strong else "c7"})"'


def _scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    log = low > 0 and high / low > _LOG_RATIO
    ticks = svg.log_ticks(low, high) if log else svg.linear_ticks(low, high)
    return _Scale(ticks, min(low, ticks[0]), max(high, ticks[-1]), log)


def _labels(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[str]:
    """A label for each point, at the first place around it where it covers no other label and no point.

    A label without room is left out: the point's own title has it.
    """
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in places]
    placed = []
    for (x, y), label in zip(places, labels, strict=True):
        width = _CHARACTER * len(label)
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
        if free:
            taken.append(boxes[free[0]])
            left, base, anchor = options[free[0]]
            placed.append(svg.text(left, base, label, anchor))
    return placed


def _box(x: float, base: float, width: float, anchor: str) -> tuple[float, float, float, float]:
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return (left, base - _LINE + 3, left + width, base + 2)


def _is_inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= _TOP and box[3] <= HEIGHT - _BOTTOM


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
