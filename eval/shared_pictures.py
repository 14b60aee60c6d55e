"""The pictures that show all runs side by side, and the held-out faces they share."""

from __future__ import annotations

import numpy as np
import torch

from eval import charts, pictures
from eval.pictures import NUM_FACES, Faces
from eval.render import Figure
from eval.results import Picture
from eval.run_pass import Protocol
from facegen.model import Model
from shards.reader import Reader


def held_out_faces(protocol: Protocol) -> Faces:
    """Faces spread evenly over the evaluated images, so that one person's many pictures don't fill the row."""
    dataset, split = protocol.dataset, protocol.split
    num_faces = min(NUM_FACES, protocol.num_images)
    rows = np.linspace(0, protocol.num_images - 1, num_faces).round().astype(np.int64)
    image = dataset.image
    images = torch.empty((num_faces, image.height, image.width, image.channels), dtype=torch.uint8)
    Reader(dataset, split).read_images(rows, images.numpy())
    columns = {name: dataset.labels(name, split)[rows] for name in dataset.fields}
    labels = {name: torch.from_numpy(column.astype(_label_dtype(column))) for name, column in columns.items()}
    return Faces(images, labels)


def _label_dtype(column: np.ndarray) -> type[np.generic]:
    """Labels reach a model as the loader gives them: float32, or int64."""
    return np.float32 if column.dtype == np.float32 else np.int64


def shared_pictures(faces: Faces, models: list[tuple[str, Model]]) -> tuple[list[Picture], dict[str, Figure]]:
    """Reconstructions side by side, and training curves.

    Returns:
        The pictures, and their content by file name.
    """
    shown: list[Picture] = []
    figures: dict[str, Figure] = {}
    if any({"encode", "decode"} <= model.can for _, model in models):
        caption = "The same images for all runs, spread evenly over the split; reconstructed from mu."
        shown.append(Picture("reconstructions.png", "Originals and reconstructions", caption))
        figures["reconstructions.png"] = pictures.reconstruction_grid(faces, models)
    logged = [(label, charts.read_metrics(model.run_dir)) for label, model in models]
    for key, (title, _) in charts.CURVES.items():
        chart = charts.training_curves(key, logged)
        if chart is not None:
            shown.append(Picture(f"training_{key}.svg", title, "Strong: held-out images; faint: training batches."))
            figures[f"training_{key}.svg"] = chart
    return shown, figures
