"""Panels of points in the plane: colored by a label, or as a density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from shards.dataset.manifest import LabelField

PANEL_PIXELS = 720
_MARGIN = 24
_INSET = 56
"""Empty pixels around the points: a smoothed density must end within its panel."""
_HEADER = 64
_LEGEND_LINE = 26
_SHARPNESS = 3
"""Points are drawn this much larger and shrunk, which smooths their edges."""
_INK, _SOFT, _MISSING = (36, 41, 47), (107, 114, 128), (214, 218, 224)
_COLORS = np.array(
    [(37, 99, 201), (234, 88, 12), (21, 128, 61), (147, 51, 234), (190, 24, 93), (14, 116, 144), (161, 98, 7)]
)
_OTHER = (150, 156, 166)
_SEQUENCE = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (245, 220, 40)], float)
_DENSITY = np.array([(255, 255, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107)], float)
_DENSITY_BINS = 180
_SCOTT_FRACTION = 0.5
"""Smoothing width as a fraction of Scott's rule: the rule assumes one Gaussian, and maps have many small groups."""


@dataclass(frozen=True)
class Coloring:
    """A color for each point, and a legend."""

    title: str
    colors: np.ndarray
    """uint8 (N, 3)."""
    known: np.ndarray
    """bool (N,): False where the label is missing; those points are drawn below the others."""
    legend: tuple[tuple[str, tuple[int, int, int]], ...]


def color_by_label(name: str, field: LabelField, column: np.ndarray) -> Coloring:
    """Colors for the values of a label (N,).

    A bool has two colors, a degree a gradient from its 2nd to its 98th percentile, and a class one color for each of
    its most frequent values and gray for the rest.
    """
    if field.kind == "float":
        return _by_degree(name, column)
    known = column != field.missing
    names = ("no", "yes") if field.kind == "bool" else field.classes
    values, counts = np.unique(column[known], return_counts=True)
    shown = values[np.argsort(-counts, kind="stable")][: len(_COLORS)]
    if field.kind == "bool":
        shown = np.sort(shown)
    colors = np.full((len(column), 3), _OTHER, np.uint8)
    legend = []
    for color, value in zip(_COLORS, shown, strict=False):
        colors[column == value] = color
        legend.append((f"{names[value]} ({counts[values == value][0]:,})", _rgb(color)))
    if len(values) > len(shown):
        legend.append((f"{len(values) - len(shown):,} others", _OTHER))
    return Coloring(name, colors, known, tuple(legend))


def _by_degree(name: str, column: np.ndarray) -> Coloring:
    known = ~np.isnan(column)
    low, high = np.percentile(column[known], (2, 98)) if known.any() else (0.0, 1.0)
    share = np.nan_to_num((column - low) / ((high - low) or 1.0)).clip(0, 1)
    marks = np.linspace(low, high, 5)
    legend = tuple((f"{mark:.2f}", _rgb(color)) for mark, color in zip(marks, _SEQUENCE, strict=True))
    return Coloring(name, _gradient(_SEQUENCE, share), known, legend)


def scatter_panel(points: np.ndarray, coloring: Coloring) -> Image.Image:
    """Points (N, 2) in their colors, RGB."""
    size = PANEL_PIXELS * _SHARPNESS
    canvas = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(canvas)
    radius = _SHARPNESS * float(np.clip(120 / np.sqrt(len(points)), 1.2, 4.0))
    places = _to_panel(points) * _SHARPNESS
    # In random order: otherwise the value whose images come last would cover the others.
    order = np.random.default_rng(0).permutation(len(points))
    order = np.concatenate([order[~coloring.known[order]], order[coloring.known[order]]])
    for position in order.tolist():
        x, y = places[position]
        color = _rgb(coloring.colors[position]) if coloring.known[position] else _MISSING
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    legend = coloring.legend
    if not coloring.known.all():
        legend = (*legend, (f"unknown ({(~coloring.known).sum():,})", _MISSING))
    return _with_header(canvas, coloring.title, legend)


def density_panel(points: np.ndarray) -> Image.Image:
    """The density of points (N, 2), RGB; darker is denser."""
    places = _to_panel(points)
    edges = np.linspace(0, PANEL_PIXELS, _DENSITY_BINS + 1)
    counts, _, _ = np.histogram2d(places[:, 1], places[:, 0], bins=(edges, edges))
    bin_pixels = PANEL_PIXELS / _DENSITY_BINS
    width = _SCOTT_FRACTION * places.std(axis=0).mean() * len(points) ** (-1 / 6)
    density = gaussian_filter(counts, width / bin_pixels)
    image = Image.fromarray(_gradient(_DENSITY, density / density.max()))
    size = PANEL_PIXELS * _SHARPNESS
    canvas = image.resize((size, size), Image.Resampling.BICUBIC)
    return _with_header(canvas, "density", ((f"{len(points):,} images", _rgb(_DENSITY[3])),))


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels in one row, RGB."""
    canvas = Image.new("RGB", (sum(panel.width for panel in panels), max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        canvas.paste(panel, (left, 0))
        left += panel.width
    return canvas


def _to_panel(points: np.ndarray) -> np.ndarray:
    """Pixels (N, 2), x to the right and y down, with the same scale for both."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (PANEL_PIXELS - 2 * _INSET) / (max(high - low) or 1.0)
    centered = (points - (low + high) / 2) * scale
    return centered * (1, -1) + PANEL_PIXELS / 2


def _with_header(canvas: Image.Image, title: str, legend: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """Shrinks a drawing and puts title and legend above it."""
    font, small = ImageFont.load_default(26), ImageFont.load_default(18)
    places, x, line = [], _MARGIN, 0
    for text, color in legend:
        width = 24 + int(small.getlength(text)) + 18
        if x + width > PANEL_PIXELS and x > _MARGIN:
            x, line = _MARGIN, line + 1
        places.append((x, _HEADER + line * _LEGEND_LINE, text, color))
        x += width
    top = _HEADER + (line + 1) * _LEGEND_LINE
    panel = Image.new("RGB", (PANEL_PIXELS, PANEL_PIXELS + top), "white")
    panel.paste(canvas.resize((PANEL_PIXELS, PANEL_PIXELS), Image.Resampling.BOX), (0, top))
    draw = ImageDraw.Draw(panel)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=font)
    for left, upper, text, color in places:
        draw.ellipse((left, upper + 4, left + 14, upper + 18), fill=color)
        draw.text((left + 22, upper), text, fill=_SOFT, font=small)
    return panel


def _gradient(anchors: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colors uint8 (..., 3) of shares in [0, 1], between evenly spaced anchors."""
    position = share * (len(anchors) - 1)
    lower = np.floor(position).astype(int).clip(0, len(anchors) - 2)
    weight = (position - lower)[..., None]
    return ((1 - weight) * anchors[lower] + weight * anchors[lower + 1]).round().astype(np.uint8)


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in color)
    return red, green, blue
