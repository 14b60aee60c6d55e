"""Small SVG charts that follow the page's light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

NUM_COLORS = 8

_STYLE = """
.fg-chart{--ink:#24292f;--soft:#6b7280;--rule:#d9dde3;--bar:#9fb8dd;
--c0:#2563c9;--c1:#c2410c;--c2:#15803d;--c3:#9333ea;--c4:#be185d;--c5:#0e7490;--c6:#a16207;--c7:#52525b;
font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
@media (prefers-color-scheme:dark){.fg-chart{--ink:#e6e8eb;--soft:#9aa3af;--rule:#3a4049;--bar:#3f5f91;
--c0:#7aa7f7;--c1:#f59e6b;--c2:#6dcf8f;--c3:#c79bf7;--c4:#f48fb8;--c5:#5fc4dc;--c6:#dfb95a;--c7:#b4b4bd}}
.fg-chart text{fill:var(--soft)}.fg-chart .ink{fill:var(--ink)}
.fg-chart .rule{stroke:var(--rule);stroke-width:1;fill:none}
.fg-chart .line{fill:none;stroke-width:2;stroke-linejoin:round}
.fg-chart .faint{stroke-width:1.2;opacity:.45}.fg-chart .dash{stroke-dasharray:4 3}
"""


@dataclass(frozen=True)
class Series:
    """One line: its points, ordered by x. Lines with one label share a color and a legend entry."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    """From ``NUM_COLORS`` on the colors come again, dashed."""
    faint: bool = False
    """Thin and pale."""


def document(width: float, height: float, title: str, body: Sequence[str]) -> str:
    """A whole SVG file; screen readers read the title."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fg-chart" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>{"".join(body)}</svg>\n'
    )


def text(x: float, y: float, content: str, anchor: str = "start", ink: bool = False, extra: str = "") -> str:
    """A piece of text."""
    kind = ' class="ink"' if ink else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{extra}>{escape(content)}</text>'


def polyline(x: np.ndarray, y: np.ndarray, css: str, stroke: str) -> str:
    """A line through points in pixels."""
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))
    return f'<polyline class="line {css}" stroke="var(--{stroke})" points="{points}"/>'


def rectangle(x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> str:
    """A filled box."""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="var(--{fill})" fill-opacity="{opacity:.3f}"/>'
    )


def line_chart(title: str, series: Sequence[Series], x_label: str, log: bool = False) -> str:
    """Lines over a common x axis.

    Args:
        title: For screen readers.
        series: At least one, each with at least one finite point; with ``log``, above 0.
        x_label: Below the axis.
        log: Logarithmic y axis.
    """
    width, left, right, bottom = 560, 54, 14, 44
    legend = _legend({line.label: line.color for line in series}, left, width - right)
    top, height = 14 + 20 * len(legend), 280 + 20 * len(legend)
    low_x, high_x = min(0.0, *(min(line.x) for line in series)), max(max(line.x) for line in series)
    low_y, high_y = min(min(line.y) for line in series), max(max(line.y) for line in series)
    # Within less than a decade 1, 2 and 5 would leave most of the chart empty.
    ticks = log_ticks(low_y, high_y) if log and high_y > 3 * low_y else linear_ticks(low_y, high_y)
    low_y, high_y = min(low_y, ticks[0]), max(high_y, ticks[-1])
    transform = np.log10 if log else np.asarray
    low_t, high_t = float(transform(low_y)), float(transform(high_y))

    def to_x(values: Sequence[float]) -> np.ndarray:
        return left + (np.asarray(values) - low_x) / ((high_x - low_x) or 1) * (width - left - right)

    def to_y(values: Sequence[float]) -> np.ndarray:
        return (
            height
            - bottom
            - (transform(np.asarray(values)) - low_t) / ((high_t - low_t) or 1) * (height - top - bottom)
        )

    body: list[str] = []
    for tick in ticks:
        y = float(to_y([tick])[0])
        body += [f'<path class="rule" d="M{left} {y:.1f}H{width - right}"/>', text(left - 8, y + 4, short(tick), "end")]
    for tick in linear_ticks(low_x, high_x):
        if low_x <= tick <= high_x:
            body.append(text(float(to_x([tick])[0]), height - bottom + 18, short(tick), "middle"))
    body.append(text((left + width - right) / 2, height - 6, x_label, "middle"))
    for line in sorted(series, key=lambda line: not line.faint):
        css = "faint " * line.faint + "dash" * (line.color >= NUM_COLORS)
        body.append(polyline(to_x(line.x), to_y(line.y), css.strip(), f"c{line.color % NUM_COLORS}"))
    for number, entries in enumerate(legend):
        for x, label, color in entries:
            for start, end in ((0, 14),) if color < NUM_COLORS else ((0, 6), (9, 15)):
                body.append(rectangle(x + start, 10 + 20 * number, end - start, 4, f"c{color % NUM_COLORS}"))
            body.append(text(x + 20, 17 + 20 * number, label))
    return document(width, height, title, body)


def _legend(colors: Mapping[str, int], left: float, right: float) -> list[list[tuple[float, str, int]]]:
    """Lines of entries (x, label, color) that fit between ``left`` and ``right``; at least one line."""
    lines: list[list[tuple[float, str, int]]] = [[]]
    x = left
    for label, color in colors.items():
        width = 20 + 7.2 * len(label)
        if lines[-1] and x + width > right:
            lines.append([])
            x = left
        lines[-1].append((x, label, color))
        x += width + 18
    return lines


def linear_ticks(low: float, high: float, num: int = 5) -> list[float]:
    """About ``num`` round numbers that cover ``low`` to ``high``."""
    span = (high - low) or abs(high) or 1.0
    raw = span / num
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that cover ``low`` to ``high``; over many decades, the powers only."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    first = max((position for position, tick in enumerate(ticks) if tick <= low), default=0)
    last = min((position for position, tick in enumerate(ticks) if tick >= high), default=len(ticks) - 1)
    return ticks[first : last + 1]


def short(value: float) -> str:
    """A number as an axis shows it."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):g}{letter}"
    return f"{value:.4g}"
