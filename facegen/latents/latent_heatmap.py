"""The heatmap of latent usage over training: its dims and epochs, the warmth of its cells, and its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facegen.latents.latent_history import LatentHistory
from facegen.latents.latent_stats import ACTIVE_VARIANCE

MAX_SHOWN = 200
"""Maximum number of rows, and of columns."""
NUM_AT_ENDS = 50
MIN_STEP = 20
LOWEST_VARIANCE = 1e-4
"""Variances up to this one all look dead."""

_COLORS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
"""Five colors of matplotlib's viridis, from 0 to 1."""
# Pixels of the picture, twice those of its place on a page.
_PLOT_WIDTH, _PLOT_HEIGHT = 960, 720
_LEFT, _TOP, _RIGHT, _BOTTOM = 92, 96, 48, 84
_FONT_SIZE, _GAP = 24, 12
_LEGEND_WIDTH, _LEGEND_HEIGHT = 200, 18
_NUM_TICKS = 6


@dataclass(frozen=True)
class Heat:
    """The cells of a heatmap: R dims, by decreasing variance in the last epoch, x C epochs."""

    ranks: np.ndarray
    """(R,) ranks of the rows among all dims, by decreasing variance in the last epoch."""
    columns: np.ndarray
    """(C,) positions of the columns in the history."""
    variance: np.ndarray
    """(R, C) variance of mu."""
    highest: float
    """Variance of warmth 1: the largest of the history, at least 1."""

    @property
    def warmth(self) -> np.ndarray:
        """(R, C) logarithmic variance, from 0 at ``LOWEST_VARIANCE`` to 1 at ``highest``."""
        return warmth(self.variance, self.highest)

    @property
    def is_active(self) -> np.ndarray:
        """(R, C) whether the dim was active in the epoch."""
        return self.variance > ACTIVE_VARIANCE


def heat_of(history: LatentHistory) -> Heat:
    """The cells of a history; of many dims or epochs, those that ``shown`` selects."""
    order = np.argsort(-history.variance[-1], kind="stable")
    ranks, columns = shown(len(order)), shown(len(history.epochs))
    variance = history.variance[np.ix_(columns, order[ranks])].T
    highest = float(np.max(variance, initial=1.0, where=np.isfinite(variance)))
    return Heat(ranks, columns, variance, highest)


def shown(num: int) -> np.ndarray:
    """Positions, among ``num`` dims or epochs, that a heatmap shows.

    Up to 200 it shows all. Of more it shows the first 50, the last 50, and every 20th of all between; above 2,100,
    only every n-th between, so that at most 200 remain.
    """
    if num <= MAX_SHOWN:
        return np.arange(num)
    step = max(MIN_STEP, -(-(num - 2 * NUM_AT_ENDS) // (MAX_SHOWN - 2 * NUM_AT_ENDS)))
    between = np.arange(step * (NUM_AT_ENDS // step + 1), num - NUM_AT_ENDS + 1, step) - 1
    return np.concatenate([np.arange(NUM_AT_ENDS), between, np.arange(num - NUM_AT_ENDS, num)])


def gaps(positions: np.ndarray) -> list[int]:
    """Start and end, among positions from ``shown``, of the part with omissions; empty without any."""
    return [NUM_AT_ENDS, len(positions) - NUM_AT_ENDS] if positions[-1] >= len(positions) else []


def warmth(variance: np.ndarray, highest: float) -> np.ndarray:
    """Logarithmic variance, clipped to 0 at ``LOWEST_VARIANCE`` and 1 at ``highest``; 0 for NaN."""
    clipped = np.clip(np.nan_to_num(variance, posinf=highest), LOWEST_VARIANCE, highest)
    return np.log(clipped / LOWEST_VARIANCE) / np.log(highest / LOWEST_VARIANCE)


def tick_positions(num: int, num_ticks: int = _NUM_TICKS) -> np.ndarray:
    """Up to ``num_ticks`` evenly spaced positions of ``num`` rows or columns, with the first and the last."""
    return np.unique(np.linspace(0, num - 1, min(num, num_ticks)).round().astype(int))


def left_out(heat: Heat) -> str:
    """Says what a heatmap leaves out between its lines; empty where it shows all."""
    parts = []
    for noun, positions in (("dim", heat.ranks), ("epoch", heat.columns)):
        if gaps(positions):
            begin = gaps(positions)[0]
            parts.append(f"one {noun} of {positions[begin + 1] - positions[begin]}")
    return f"between the lines: {' and '.join(parts)}" if parts else ""


def heatmap_picture(history: LatentHistory) -> Tensor:
    """The heatmap of a run in progress, on white: epochs to the right, dims downwards, bright where mu varies.

    Returns:
        uint8, height x width x 3.
    """
    heat = heat_of(history)
    num_rows, num_columns = heat.variance.shape
    cell_height = max(2, min(24, _PLOT_HEIGHT // num_rows))
    cell_width = max(2, min(80, _PLOT_WIDTH // num_columns))
    cells = _color(heat.warmth).repeat(cell_height, axis=0).repeat(cell_width, axis=1)
    height, width = cells.shape[:2]
    canvas = Image.new("RGB", (_LEFT + max(width, _PLOT_WIDTH) + _RIGHT, _TOP + height + _BOTTOM), "white")
    canvas.paste(Image.fromarray(cells), (_LEFT, _TOP))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    _draw_legend(canvas, draw, font, heat.highest)
    right, bottom = _LEFT + width, _TOP + height
    for row in gaps(heat.ranks):
        draw.line([_LEFT - 8, _TOP + row * cell_height, right, _TOP + row * cell_height], "white", 2)
    for column in gaps(heat.columns):
        draw.line([_LEFT + column * cell_width, _TOP, _LEFT + column * cell_width, bottom], "white", 2)
    for row in tick_positions(num_rows):
        place = (_LEFT - _GAP, _TOP + (row + 0.5) * cell_height)
        draw.text(place, f"{heat.ranks[row] + 1}", "black", font, anchor="rm")
    for column in tick_positions(num_columns):
        epoch = f"{round(float(history.epochs[heat.columns[column]]), 2):g}"
        draw.text((_LEFT + (column + 0.5) * cell_width, bottom + 8), epoch, "black", font, anchor="ma")
    draw.text((_LEFT, _TOP - _GAP), "dim, by variance in the last epoch", "black", font, anchor="lb")
    draw.text((_LEFT, bottom + 44), "epoch", "black", font)
    draw.text((canvas.width - _RIGHT, bottom + 44), left_out(heat), "black", font, anchor="ra")
    return torch.from_numpy(np.array(canvas))


def _draw_legend(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, highest: float
) -> None:
    lowest = f"variance of mu: {LOWEST_VARIANCE:g} or less"
    draw.text((_LEFT, 12), lowest, "black", font)
    left = _LEFT + round(draw.textlength(lowest, font)) + _GAP
    colors = _color(np.linspace(0, 1, _LEGEND_WIDTH)[None]).repeat(_LEGEND_HEIGHT, axis=0)
    canvas.paste(Image.fromarray(colors), (left, 18))
    draw.text((left + _LEGEND_WIDTH + _GAP, 12), f"{highest:.3g}, logarithmic", "black", font)


def _color(values: np.ndarray) -> np.ndarray:
    """uint8 colors, with a further axis of 3, of values in [0, 1]."""
    stops = np.linspace(0, 1, len(_COLORS))
    return np.stack([np.interp(values, stops, channel) for channel in _COLORS.T], axis=-1).round().astype(np.uint8)
