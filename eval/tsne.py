"""A map of the latent space: ``python -m eval.tsne RUN --data DIR --color Male --out map.png``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.drawing.scatter import color_by_label, density_panel, scatter_panel, side_by_side
from eval.latent.embedding import MAX_POINTS, embed
from eval.latent.encode import encode_split
from eval.latent.faces import even_rows
from eval.latent.options import ModelOptions, check_png_path, open_data, open_model, save_png
from shards.base import cli


@dataclass(kw_only=True)
class TsneConfig(ModelOptions):
    """Options of a map."""

    data: str
    """Packed data set."""
    out: str
    """PNG file: the density, and a panel for each label."""
    split: str = "test"
    """Split whose latents are shown."""
    color: list[str] = field(default_factory=list)
    """Labels that color the points, a panel each."""
    num: int = MAX_POINTS
    """At most this many images, spread evenly over the split."""
    perplexity: float = 30.0
    """About how many neighbors each point keeps."""
    seed: int = 0
    """Seed of the optimization."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        check_png_path("out", self.out)
        if not 3 <= self.num <= MAX_POINTS:
            raise ValueError(f"num must be between 3 and {MAX_POINTS:,}, not {self.num:,}.")
        if not 1 <= self.perplexity < float("inf"):
            raise ValueError(f"perplexity must be at least 1, not {self.perplexity:g}.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        TsneConfig,
        prog="python -m eval.tsne",
        description="Lays the latents of a split out in the plane with t-SNE.",
        positional=["run"],
        args=args,
    )
    model = open_model(config, "encode")
    dataset = open_data(config.data, model, config.split)
    columns = {name: dataset.labels(name, config.split) for name in config.color}
    rows = even_rows(dataset.num_samples(config.split), config.num)
    latents = encode_split(model, dataset, config.split)[rows]
    points = embed(latents, config.perplexity, config.seed)
    colorings = [color_by_label(name, dataset.fields[name], column[rows]) for name, column in columns.items()]
    panels = [density_panel(points), *(scatter_panel(points, coloring) for coloring in colorings)]
    save_png(config.out, side_by_side(panels))


if __name__ == "__main__":
    cli.run(main)
