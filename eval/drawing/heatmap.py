"""The chart of latent usage over training: which dims become active, which collapse, and when."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from eval.drawing import svg
from facegen.latents.latent_heatmap import LOWEST_VARIANCE, Heat, gaps, heat_of, left_out, tick_positions, warmth
from facegen.latents.latent_history import LatentHistory, read_latent_history
from facegen.latents.latent_stats import ACTIVE_VARIANCE

_NUM_SHADES = 16
_ACTIVE, _INACTIVE = "c0", "c7"
_WIDTH, _LEFT, _RIGHT, _TOP = 900, 56, 16, 30


def latent_heatmap(run: str | Path) -> str | None:
    """The variance of mu of each dim at the end of each epoch of a run, as SVG; None where the run logged none.

    Epochs go right. Dims go down, ordered by their variance in the last epoch. With more than 200 dims or epochs, the
    first 50 and the last 50 are shown and, between two lines, every 20th (beyond 2,100: every n-th). The shade is the
    variance's logarithm; active dims are colored, the others gray.
    """
    history = read_latent_history(Path(run))
    return history and _draw(history)


def _draw(history: LatentHistory) -> str:
    heat = heat_of(history)
    num_rows, num_columns = heat.variance.shape
    cell_height = min(14.0, max(2.4, 360 / num_rows))
    cell_width = (_WIDTH - _LEFT - _RIGHT) / num_columns
    bottom = _TOP + num_rows * cell_height
    title = "Variance of mu over epochs, dims in order of it at the end"
    body = [svg.text(_LEFT, 16, title, ink=True, extra=' font-weight="600"')]
    body += _cells(heat, cell_width, cell_height)
    for row in tick_positions(num_rows):
        body.append(svg.text(_LEFT - 6, _TOP + (row + 0.5) * cell_height + 4, str(heat.ranks[row] + 1), "end"))
    for column in tick_positions(num_columns, 10):
        epoch = svg.short(float(history.epochs[heat.columns[column]]))
        body.append(svg.text(_LEFT + (column + 0.5) * cell_width, bottom + 16, epoch, "middle"))
    body.append(svg.text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 32, "epoch", "middle"))
    for row in gaps(heat.ranks):
        body.append(f'<path class="rule" d="M{_LEFT - 44} {_TOP + row * cell_height:.1f}H{_WIDTH - _RIGHT}"/>')
    for column in gaps(heat.columns):
        body.append(f'<path class="rule" d="M{_LEFT + column * cell_width:.1f} {_TOP}V{bottom + 20:.1f}"/>')
    body += _legend(heat.highest, bottom + 46)
    images = f"mu of {history.count[-1]:,} images of {history.split}"
    body.append(svg.text(_WIDTH - _RIGHT, bottom + 58, images, "end"))
    body.append(svg.text(_WIDTH - _RIGHT, bottom + 74, left_out(heat), "end"))
    return svg.document(_WIDTH, bottom + 84, title, body)


def _cells(heat: Heat, cell_width: float, cell_height: float) -> list[str]:
    """One path for each shade; neighboring cells of one shade share a stroke, which keeps files small."""
    shades = np.minimum((heat.warmth * _NUM_SHADES).astype(int), _NUM_SHADES - 1)
    keys = shades + _NUM_SHADES * heat.is_active
    strokes: dict[int, list[str]] = defaultdict(list)
    for row, values in enumerate(keys):
        starts = np.flatnonzero(np.diff(values, prepend=-1))
        for start, length in zip(starts, np.diff(starts, append=len(values)), strict=True):
            strokes[values[start]].append(f"M{start} {row}h{length}")
    place = f"translate({_LEFT} {_TOP + cell_height / 2:.2f}) scale({cell_width:.4f} {cell_height:.4f})"
    paths = [
        f'<path stroke="var(--{_ACTIVE if key >= _NUM_SHADES else _INACTIVE})" '
        f'stroke-opacity="{_opacity((key % _NUM_SHADES + 0.5) / _NUM_SHADES):.3f}" d="{"".join(parts)}"/>'
        for key, parts in sorted(strokes.items())
    ]
    return [f'<g fill="none" stroke-width="1" shape-rendering="crispEdges" transform="{place}">', *paths, "</g>"]


def _legend(highest: float, top: float) -> list[str]:
    """The shades between the lowest and the highest variance, and below them the one from which a dim is active."""
    left, width, num_steps = _LEFT + 92, 320, 40
    step = width / num_steps
    threshold = float(warmth(np.array(ACTIVE_VARIANCE), highest))
    parts = ['<g shape-rendering="crispEdges">']
    for position in range(num_steps):
        value = (position + 0.5) / num_steps
        color = _ACTIVE if value > threshold else _INACTIVE
        parts.append(svg.rectangle(left + position * step, top, step, 10, color, _opacity(value)))
    parts.append("</g>")
    active = left + width * threshold
    parts.append(svg.text(left - 6, top + 9, f"{svg.short(LOWEST_VARIANCE)} or less", "end"))
    parts.append(svg.text(left + width + 6, top + 9, svg.short(highest)))
    parts.append(f'<path class="rule" d="M{active:.1f} {top:.1f}V{top + 15:.1f}"/>')
    parts.append(svg.text(active, top + 28, f"active above {svg.short(ACTIVE_VARIANCE)}", "middle"))
    return parts


def _opacity(value: float) -> float:
    return 0.06 + 0.94 * value
