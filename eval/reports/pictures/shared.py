"""The pictures that show all runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from eval.drawing import charts
from eval.drawing.grids import Row, face_grid
from eval.reports.pictures.base import Context, Figure
from eval.reports.results import Picture
from facegen.model import Model

NamedModels = Sequence[tuple[str, Model]]


def reconstruction_picture(models: NamedModels, context: Context) -> tuple[Picture, Image.Image] | None:
    """Originals in the first row, then the reconstructions (from mu) of each run; None where no run makes some."""
    able = [(name, model) for name, model in models if {"encode", "decode"} <= model.can]
    if not able:
        return None
    rows = [Row(context.faces(able[0][1]).images, "original")]
    rows += [Row(context.faces(model).reconstruct(model), name) for name, model in able]
    caption = "The same images for all runs, spread evenly over the split; reconstructed from mu."
    return Picture("reconstructions.png", "Originals and reconstructions", caption), face_grid(rows)


def curve_pictures(models: NamedModels) -> list[tuple[Picture, Figure]]:
    """Training curves of everything that some run logged."""
    logged = [(label, charts.read_metrics(model.run_dir)) for label, model in models]
    caption = "Strong: held-out images where the run measured them; faint, or alone: training batches."
    found = [(key, title, charts.training_curves(key, logged)) for key, (title, _) in charts.CURVES.items()]
    return [(Picture(f"training_{key}.svg", title, caption), chart) for key, title, chart in found if chart]
