"""A run's past: what it drew while it trained, how it used its latent dims, and its curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.base.run_pictures import training_pictures
from eval.drawing import charts
from eval.drawing.animation import encode_animation
from eval.drawing.heatmap import latent_heatmap
from eval.latent.faces import even_rows
from eval.reports.part import Absent, Drawing, Part, RunPicture, Shared, SideBySide
from eval.reports.results import Picture
from eval.reports.run_context import AllRuns, RunContext
from facegen.runs.metrics_file import read_metrics

MAX_FRAMES = 30
FRAME_MS = 400
_MIN_WIDTH = 480
_BAR_PIXELS = 28
_PAPER, _INK = "white", (60, 65, 75)


def heatmap(run: RunContext) -> Drawing | Absent:
    """The variance of each dim at the end of each epoch."""
    chart = None if run.model.run_dir is None else latent_heatmap(run.model.run_dir)
    if chart is None:
        return Absent("the run kept no variances of mu per epoch")
    return Drawing(chart, "A dim is alive where the variance of mu over images is above 0.01.")


def reconstruction_animation(run: RunContext) -> Drawing | Absent:
    """The reconstructions that training drew, one after the other."""
    caption = "Held-out originals, each row of them above the row of their reconstructions, as training drew them."
    return _animation(run, "reconstructions", caption)


def sample_animation(run: RunContext) -> Drawing | Absent:
    """The samples that training drew, always of the same latents."""
    return _animation(run, "samples", "The same latents all along, as training drew them.")


def _animation(run: RunContext, kind: str, caption: str) -> Drawing | Absent:
    pictures = training_pictures(run.model.run_dir, kind, run.model.images_seen)
    if len(pictures) < 2:
        return Absent(f"the run kept {len(pictures)} picture{'' if len(pictures) == 1 else 's'} of {kind}")
    chosen = [pictures[position] for position in np.unique(even_rows(len(pictures), MAX_FRAMES))]
    frames = [_frame(path, f"{images_seen:,} images seen") for images_seen, path in chosen]
    largest = max(frame.width for frame in frames), max(frame.height for frame in frames)
    alike = [frame for frame in frames if frame.size == largest]
    first, last = chosen[0][0], chosen[-1][0]
    numbers = f" {len(alike)} pictures from {first:,} to {last:,} images seen."
    return Drawing(encode_animation(alike, frame_ms=FRAME_MS), caption + numbers)


def _frame(path: Path, label: str) -> Image.Image:
    """A picture of training, small ones enlarged by a whole factor, with a line of text above it."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    factor = max(1, -(-_MIN_WIDTH // picture.width))
    size = picture.width * factor, picture.height * factor
    canvas = Image.new("RGB", (size[0], size[1] + _BAR_PIXELS), _PAPER)
    canvas.paste(picture.resize(size, Image.Resampling.NEAREST), (0, _BAR_PIXELS))
    ImageDraw.Draw(canvas).text((6, 4), label, fill=_INK, font=ImageFont.load_default(17))
    return canvas


def curves(runs: AllRuns) -> Shared | Absent:
    """Training curves of everything that some run logged."""
    logged = [(label, read_metrics(model.run_dir)) for label, model in runs.models]
    caption = "Strong: held-out images where the run measured them; faint, or alone: training batches."
    found = [(key, title, charts.training_curves(key, logged)) for key, (title, _) in charts.CURVES.items()]
    pictures = [(Picture(f"training_{key}.svg", title, caption), chart) for key, title, chart in found if chart]
    return Shared(pictures) if pictures else Absent("no run logged what they show")


PARTS = [
    Part(
        name="heatmap",
        content="latent usage over the epochs of training",
        needs=("encode",),
        group="Latent space",
        pictures=(RunPicture("latent_heatmap.svg", "Latent usage over training", heatmap),),
    ),
    Part(
        name="animation",
        content="the pictures of training as an animation",
        group="Training",
        pictures=(
            RunPicture(
                "training_reconstructions.webp",
                "Reconstructions over training",
                reconstruction_animation,
                needs=("encode", "decode"),
            ),
            RunPicture("training_samples.webp", "Samples over training", sample_animation, needs=("sample",)),
        ),
    ),
    Part(name="curves", content="training curves", compare=SideBySide("Training curves", curves)),
]
