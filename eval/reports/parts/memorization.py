"""The share of samples that come too near to a training face, in the space of a face recognizer."""

from __future__ import annotations

import numpy as np

from eval.features.feature_set import FeatureSets
from eval.latent.nearest import Nearest, feature_points, nearest_rows
from eval.metrics.memorization import USUAL_SHARE, memorized
from eval.reports.context import ReportContext
from eval.reports.part import Absent, Amount, Drawing, Features, Measures, Part, RunPicture, Setup
from eval.reports.parts.distances import group
from eval.reports.parts.neighbors import NUM_NEAREST, nearest_samples
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext

_NAME, _KEY, _SPACE = "memorization", "memorized_face", "face"
_HELP = "share nearer to a training face than 99 % of held-out faces are; 0.01 is usual for new faces, 1 for copies"


def held_out_distances(report: ReportContext) -> np.ndarray | Absent:
    """The distance of each evaluated face to its nearest training face, (N,); or why there is none."""
    dataset, split = report.protocol.dataset, report.protocol.split
    if _SPACE in report.absent_spaces:
        return Absent(report.absent_spaces[_SPACE])
    if "train" not in dataset.splits:
        return Absent(f"data set {dataset.address} has no training split")
    if split == "train":
        return Absent("needs held-out faces")
    return _nearest(report, report.split_features).distances[:, 0]


def _nearest(report: ReportContext, features: FeatureSets | None, num: int = 1) -> Nearest:
    """The training faces nearest to each image; features of all of them are cached in blocks."""
    assert features is not None
    space = next(space for space in report.spaces if space.name == _SPACE)
    points = feature_points(space, report.protocol.dataset, "train")
    return nearest_rows(features.sets[_SPACE].bank.ordered(), points, num)


def _known(run: RunContext) -> np.ndarray | Absent:
    """``held_out_distances``, for a run that can be compared with them."""
    if run.model.dataset_fingerprint not in ("", run.protocol.dataset.fingerprint):
        return Absent("the training images are those of another data set; give that one as --data")
    return run.report.prepared[_NAME]


def measure(run: RunContext) -> Measures:
    """Of samples."""
    held_out = _known(run)
    if isinstance(held_out, Absent):
        return {_KEY: Measure(reason=held_out.reason)}
    share, limit = memorized(_nearest(run.report, run.sample_features).distances[:, 0], held_out)
    note = (
        f"nearer than {limit:.3f} to one of {run.protocol.dataset.num_samples('train'):,} training faces, "
        f"as {USUAL_SHARE:.0%} of {len(held_out):,} held-out faces are"
    )
    return {_KEY: Measure(share, note=note)}


def nearest_picture(run: RunContext) -> Drawing | Absent:
    """The samples that are nearest to a training face, each beside its nearest ones."""
    held_out, dataset = _known(run), run.protocol.dataset
    if isinstance(held_out, Absent):
        return held_out
    nearest = _nearest(run.report, run.sample_features, min(NUM_NEAREST, dataset.num_samples("train")))
    closest = nearest.distances[:, 0]
    caption = (
        f"Of {len(closest):,} samples those nearest to a training face for a recognizer; at the left the distance. "
        f"Median {np.median(closest):.3f}; of held-out faces {np.median(held_out):.3f}, and "
        f"{USUAL_SHARE:.0%} of them are nearer than {np.quantile(held_out, USUAL_SHARE):.3f}."
    )
    return Drawing(nearest_samples(run, nearest, ".3f"), caption)


PARTS = [
    Part(
        name=_NAME,
        content="share of samples that are copies of training faces; needs the space face",
        rows=[Metric(_KEY, "Memorized-Face", group("samples"), "", "", ".3f", _HELP)],
        summary=(_KEY,),
        measure=measure,
        needs=("sample",),
        lacking="makes no samples",
        features=Features(split=Amount.ALL, samples=Amount.ALL),
        group="Samples",
        pictures=(RunPicture("memorized.png", "Samples most like a training face", nearest_picture),),
        prepare=Setup("training faces nearest to held-out ones", held_out_distances),
        space=_SPACE,
        of_stand_ins=True,
    )
]
