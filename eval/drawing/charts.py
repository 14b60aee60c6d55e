"""The charts of a report: training curves, latent histograms and latent variances."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.drawing import svg
from eval.metrics.latent_usage import ACTIVE_VARIANCE, GRID, LatentUsage
from facegen.runs.metrics_file import Point

NUM_HISTOGRAMS = 30
CURVES = {
    "mse": ("Reconstruction MSE on [-1, 1] in training", True),
    "kl": ("KL in nats per image in training", False),
    "d_loss": ("Loss of the discriminator in training", False),
    "g_loss": ("Loss of the generator in training", False),
}
"""Logged key without ``train/`` or ``val/``: the chart's title, and whether its y axis is logarithmic."""


def training_curves(key: str, runs: Sequence[tuple[str, Sequence[Point]]]) -> str | None:
    """Held-out values (strong) and training values (faint, or strong alone) of every run over images seen.

    A constant, such as the error of an autoencoder under a flow, is no curve. None where no run logged the key.
    """
    title, log = CURVES[key]
    series = []
    for color, (name, points) in enumerate(runs):
        held_out, training = (_curve(points, f"{prefix}/{key}", log) for prefix in ("val", "train"))
        has_both = len(held_out[0]) > 1
        for (x, y), faint in ((training, has_both), (held_out, False)):
            if len(set(y)) > 1:
                series.append(svg.Series(name, x, y, color, faint))
    if not series:
        return None
    return svg.line_chart(title, series, "images seen", log)


def _curve(points: Sequence[Point], key: str, log: bool) -> tuple[list[float], list[float]]:
    # Non-finite numbers are logged as null.
    values = [(point["images_seen"], point[key]) for point in points if isinstance(point.get(key), (int, float))]
    kept = [(x, y) for x, y in values if math.isfinite(y) and (y > 0 or not log)]
    return [x for x, _ in kept], [y for _, y in kept]


def latent_histograms(usage: LatentUsage, latents: np.ndarray) -> str:
    """Small histograms of mu of the most active dims, the aggregated posterior as a line, N(0, 1) dashed.

    Args:
        usage: Latent usage over all images.
        latents: mu of some images, (N, L).
    """
    dims = usage.order[:NUM_HISTOGRAMS]
    columns, cell_width, cell_height, panel_height, top = 6, 150, 112, 76, 34
    num_rows = -(-len(dims) // columns)
    # Without a posterior the scale is arbitrary, and a few outliers should not squeeze the rest.
    reach = 3.5 if usage.kl is not None else max(3.5, float(np.quantile(np.abs(latents[:, dims]), 0.995)))
    edges = np.linspace(-reach, reach, 41)
    grid = np.linspace(-reach, reach, 121)
    normal = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    parts = ["bars: mu", "dashed: N(0, 1)"]
    if usage.kl is not None:
        parts.insert(1, "line: aggregated posterior")
    body = [svg.text(4, 16, f"{'; '.join(parts)}; -{reach:.3g} to {reach:.3g}".replace("-", "\u2212"))]
    for position, dim in enumerate(dims):
        x0, y0 = (position % columns) * cell_width + 4, top + (position // columns) * cell_height
        density = np.histogram(latents[:, dim], edges)[0] / (len(latents) * (edges[1] - edges[0]))
        # Tall bars are cut: beside the spike of a collapsed dim, N(0, 1) would be flat.
        tallest = 4 * float(normal.max()) if usage.kl is not None else 1.3 * float(density.max())
        peak = min(max(float(density.max()), float(normal.max())) * 1.05, tallest)
        body.append(svg.text(x0, y0, f"dim {dim}", ink=True))
        body.append(svg.text(x0 + cell_width - 16, y0, f"var {usage.variance[dim]:.2f}", "end"))
        base = y0 + 8 + panel_height
        bar = (cell_width - 16) / len(density)
        for index, value in enumerate(density):
            tall = min(value / peak, 1) * panel_height
            if tall > 0.2:
                body.append(svg.rectangle(x0 + index * bar, base - tall, bar, tall, "bar"))
        pixels = x0 + (grid + reach) / (2 * reach) * (cell_width - 16)
        body.append(svg.polyline(pixels, base - np.minimum(normal / peak, 1) * panel_height, "faint dash", "ink"))
        if usage.kl is not None:
            posterior = np.interp(grid, (GRID[1:] + GRID[:-1]) / 2, np.diff(usage.cdf[dim]) / np.diff(GRID))
            body.append(svg.polyline(pixels, base - np.minimum(posterior / peak, 1) * panel_height, "", "c1"))
        body.append(f'<path class="rule" d="M{x0} {base:.1f}h{cell_width - 16}"/>')
    return svg.document(columns * cell_width, top + num_rows * cell_height, "Latent histograms", body)


def latent_bars(usage: LatentUsage) -> str:
    """Variance of mu of every dim as bars, the most active first, and KL as a heat strip below."""
    width, left, right, top, bar_height = 900, 48, 16, 30, 150
    order = usage.order
    variance = usage.variance[order]
    ticks = svg.linear_ticks(0, float(variance.max()) or 1.0, 4)
    step = (width - left - right) / len(order)
    base = top + bar_height
    body = [svg.text(left, 16, "Variance of mu, dims in order of it", ink=True, extra=' font-weight="600"')]
    for tick in ticks:
        y = base - tick / ticks[-1] * bar_height
        body += [
            f'<path class="rule" d="M{left} {y:.1f}H{width - right}"/>',
            svg.text(left - 6, y + 4, svg.short(tick), "end"),
        ]
    for position, value in enumerate(variance):
        tall = value / ticks[-1] * bar_height
        color = "c0" if value > ACTIVE_VARIANCE else "c7"
        body.append(svg.rectangle(left + position * step, base - tall, step * 0.86, max(tall, 1), color))
    height = base + (12 if usage.kl is not None else 22)
    if usage.kl is not None:
        kl = usage.kl[order]
        peak = float(kl.max()) or 1.0
        for position, value in enumerate(kl):
            body.append(svg.rectangle(left + position * step, height, step, 18, "c1", 0.06 + 0.94 * value / peak))
        body.append(svg.text(left - 6, height + 13, "KL", "end"))
        height += 36
        body.append(svg.text(left, height, f"strip: KL of each dim, palest 0, strongest {peak:.2f} nats"))
    body.append(svg.text(width - right, height, "grey: inactive, variance of mu at most 0.01", "end"))
    return svg.document(width, height + 10, "Variance and KL of the latent dims", body)
