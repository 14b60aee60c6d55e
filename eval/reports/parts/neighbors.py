"""The training faces nearest to samples: whether the model made new faces or recalled old ones."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.features.feature_set import FeatureSets
from eval.features.space_names import SPACES
from eval.latent.faces import read_faces
from eval.latent.nearest import Nearest, distances
from eval.latent.tools.neighbors import nearest_grid
from eval.reports.part import NUM_QUERIES, Absent, Amount, Drawing, Features, Part, RunPicture
from eval.reports.parts.samples import samples
from eval.reports.run_context import RunContext

_NUM_SHOWN, NUM_NEAREST = 6, 5


def neighbor_grid(run: RunContext) -> Drawing | Absent:
    """The samples that are nearest to a training face, each beside its nearest ones."""
    dataset = run.protocol.dataset
    if run.model.dataset_fingerprint != dataset.fingerprint:
        return Absent("the training images are those of another data set; give that one as --data")
    if run.report.train_features is None:
        return Absent(f"data set {dataset.address} has no training split")
    assert run.sample_features is not None and run.report.split_features is not None
    train = _features(run.report.train_features)
    nearest = _nearest(_features(run.sample_features)[:NUM_QUERIES], train, min(NUM_NEAREST, len(train)))
    closest = nearest.distances[:, 0]
    usual = _nearest(_features(run.report.split_features)[:NUM_QUERIES], train, 1).distances[:, 0]
    caption = (
        f"Of {len(closest):,} samples those that are nearest to one of the first {len(train):,} training faces, in "
        f"EfficientNet-Lite0 features; at the left the distance. Copies would be much nearer than held-out faces are: "
        f"nearest {usual.min():.1f}, median {np.median(usual):.1f}; samples: nearest {closest.min():.1f}, median "
        f"{np.median(closest):.1f}."
    )
    return Drawing(nearest_samples(run, nearest, ".1f"), caption)


def nearest_samples(run: RunContext, nearest: Nearest, digits: str) -> Image.Image:
    """The samples that are nearest to a training face, each with its distance and beside its nearest ones."""
    closest = nearest.distances[:, 0]
    shown = np.argsort(closest, kind="stable")[:_NUM_SHOWN]
    made = [samples(run.model, run.protocol, int(sample), 1)[0] for sample in shown]
    found = [read_faces(run.model, run.protocol.dataset, "train", nearest.rows[sample]).images for sample in shown]
    return nearest_grid(made, found, [format(closest[sample], digits) for sample in shown])


def _nearest(queries: np.ndarray, points: np.ndarray, num: int) -> Nearest:
    nearest = Nearest.empty(len(queries), num)
    nearest.update(np.arange(len(points)), distances(queries, points))
    return nearest


def _features(sets: FeatureSets) -> np.ndarray:
    return sets.sets[SPACES[0].name].bank.ordered()


PARTS = [
    Part(
        name="neighbors",
        content="the training faces nearest to samples",
        needs=("sample",),
        features=Features(split=Amount.FEW, samples=Amount.FEW, train=True),
        group="Samples",
        pictures=(RunPicture("neighbors.png", "Samples and their nearest training faces", neighbor_grid),),
    )
]
