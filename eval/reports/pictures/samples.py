"""Pictures of samples: as they come, at other standard deviations, and beside the training faces nearest to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.drawing.grids import Row, face_grid
from eval.features.feature_set import FeatureSets
from eval.latent.conditions import degree_text, split_degrees
from eval.latent.faces import read_faces
from eval.latent.nearest import Nearest, distances
from eval.latent.sample_conditions import condition_note, sample_labels
from eval.latent.tools.neighbors import nearest_grid
from eval.latent.tools.sample import STD_ROWS
from eval.reports.pictures.base import Absent, Context, Drawing
from eval.reports.run_pass import NUM_QUERIES, Protocol
from facegen.pixels import to_uint8

NUM_ROWS, NUM_COLUMNS = 6, 12
_SPACE = "efflite0"
_NUM_SHOWN, _NUM_NEAREST = 6, 5


def sample_grid(model: Any, context: Context) -> Drawing:
    """The first samples."""
    protocol = context.protocol
    images = _samples(model, protocol, 0, NUM_ROWS * NUM_COLUMNS)
    caption = f"The first {len(images)} of seed {protocol.seed}, not chosen." + _note(model, protocol)
    return Drawing(face_grid([Row(row) for row in np.split(images, NUM_ROWS)]), caption)


def std_grid(model: Any, context: Context) -> Drawing:
    """The same latents, a row for each standard deviation."""
    protocol = context.protocol
    rows = [Row(_samples(model, protocol, 0, NUM_COLUMNS, std), f"{std:.2f}") for std in STD_ROWS]
    caption = "The same latents times a standard deviation from 0.25 to 2, at the left; 1 is the prior."
    if model.condition not in protocol.dataset.fields:
        return Drawing(face_grid(rows), caption)
    degrees = split_degrees(model, protocol.dataset, protocol.split)[np.arange(NUM_COLUMNS) % protocol.num_images]
    caption += f" Above: the degree of {model.condition} that each is made with."
    return Drawing(face_grid(rows, [degree_text(degree) for degree in degrees]), caption)


def neighbor_grid(model: Any, context: Context) -> Drawing | Absent:
    """The samples that are nearest to a training face, each beside its nearest ones."""
    protocol = context.protocol
    dataset = protocol.dataset
    if model.dataset_fingerprint != dataset.fingerprint:
        return Absent("the training images are those of another data set; give that one as --data")
    if context.train is None:
        return Absent(f"data set {dataset.address} has no training split")
    assert context.samples is not None and context.held_out is not None
    train = _features(context.train)
    nearest = _nearest(_features(context.samples)[:NUM_QUERIES], train, min(_NUM_NEAREST, len(train)))
    closest = nearest.distances[:, 0]
    usual = _nearest(_features(context.held_out)[:NUM_QUERIES], train, 1).distances[:, 0]
    shown = np.argsort(closest, kind="stable")[:_NUM_SHOWN]
    samples = [_samples(model, protocol, int(sample), 1)[0] for sample in shown]
    found = [read_faces(model, dataset, "train", nearest.rows[sample]).images for sample in shown]
    caption = (
        f"Of {len(closest):,} samples those that are nearest to one of the first {len(train):,} training faces, in "
        f"EfficientNet-Lite0 features; at the left the distance. Copies would be much nearer than held-out faces are: "
        f"nearest {usual.min():.1f}, median {np.median(usual):.1f}; samples: nearest {closest.min():.1f}, median "
        f"{np.median(closest):.1f}."
    )
    return Drawing(nearest_grid(samples, found, [f"{closest[sample]:.1f}" for sample in shown]), caption)


def _nearest(queries: np.ndarray, points: np.ndarray, num: int) -> Nearest:
    nearest = Nearest.empty(len(queries), num)
    nearest.update(np.arange(len(points)), distances(queries, points))
    return nearest


def _features(sets: FeatureSets) -> np.ndarray:
    return sets.sets[_SPACE].bank.ordered()


def _samples(model: Any, protocol: Protocol, first: int, num: int, std: float = 1.0) -> np.ndarray:
    """Samples as the distances are measured on them, uint8 (num, H, W, C)."""
    labels = sample_labels(model, protocol.dataset, protocol.split, protocol.num_images, first, num)
    return to_uint8(model.sample(num, seed=protocol.seed, std=std, labels=labels, first=first)).cpu().numpy()


def _note(model: Any, protocol: Protocol) -> str:
    return condition_note(model, protocol.dataset, protocol.split)
