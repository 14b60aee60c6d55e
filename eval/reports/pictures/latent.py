"""Pictures of where mu lies: its variances and histograms, and its map in the plane."""

from __future__ import annotations

from typing import Any

from eval.drawing import charts
from eval.latent.faces import even_rows
from eval.latent.tools.tsne import MAX_POINTS, embed, latent_map
from eval.reports.pictures.base import Absent, Context, Drawing
from eval.reports.pictures.chosen_attributes import choose_attributes

_NUM_COLORINGS = 2


def variance_chart(model: Any, context: Context) -> Drawing:
    """How much each dim is used."""
    assert context.usage is not None
    caption = "How much each dim varies over images" + (
        ", and what it costs in KL." if context.usage.kl is not None else "."
    )
    return Drawing(charts.latent_bars(context.usage), caption)


def histogram_chart(model: Any, context: Context) -> Drawing:
    """The most active dims against N(0, 1)."""
    usage = context.usage
    assert usage is not None and context.latents is not None
    caption = f"The {min(charts.NUM_HISTOGRAMS, len(usage.variance))} most active dims against N(0, 1)."
    return Drawing(charts.latent_histograms(usage, context.latents), caption)


def map_picture(model: Any, context: Context) -> Drawing | Absent:
    """t-SNE of mu: density, and the data set's own labels as colors."""
    assert context.latents is not None
    protocol = context.protocol
    rows = even_rows(len(context.latents), MAX_POINTS)
    if len(rows) < 4:
        return Absent(f"{len(rows)} images are too few for a map")
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = embed(context.latents[rows], perplexity, protocol.seed)
    labels = list(choose_attributes(protocol.dataset, protocol.split, protocol.num_images))[:_NUM_COLORINGS]
    caption = (
        f"t-SNE of mu of {len(rows):,} of the {protocol.num_images:,} images, spread evenly over them, perplexity "
        f"{perplexity:.0f}. Near means similar; distances between groups mean nothing."
    )
    return Drawing(latent_map(points, protocol.dataset, protocol.split, rows, labels), caption)
