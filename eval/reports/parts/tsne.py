"""A map of the latents in the plane: their density, and the data set's own labels as colors."""

from __future__ import annotations

from eval.latent.chosen_attributes import choose_attributes
from eval.latent.faces import even_rows
from eval.latent.tools.tsne import MAX_POINTS, embed, latent_map
from eval.reports.part import Absent, Drawing, Part, RunPicture
from eval.reports.run_context import RunContext
from eval.reports.statistic import LATENTS

_NUM_COLORINGS = 2


def map_picture(run: RunContext) -> Drawing | Absent:
    """t-SNE of mu, which takes minutes on one core for as many points as it may have."""
    latents, protocol = run[LATENTS], run.protocol
    rows = even_rows(len(latents), MAX_POINTS)
    if len(rows) < 4:
        return Absent(f"{len(rows)} images are too few for a map")
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = embed(latents[rows], perplexity, protocol.seed)
    labels = list(choose_attributes(protocol.dataset, protocol.split, protocol.num_images))[:_NUM_COLORINGS]
    caption = (
        f"t-SNE of mu of {len(rows):,} of the {protocol.num_images:,} images, spread evenly over them, perplexity "
        f"{perplexity:.0f}. Near means similar; distances between groups mean nothing."
    )
    return Drawing(latent_map(points, protocol.dataset, protocol.split, rows, labels), caption)


PARTS = [
    Part(
        name="tsne",
        content="a map of the latents",
        needs=("encode",),
        statistics=(LATENTS,),
        group="Latent space",
        pictures=(RunPicture("tsne.png", "Map of the latents", map_picture),),
    )
]
