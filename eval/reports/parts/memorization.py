"""The share of samples that come too near to a training face, in the space of a face recognizer."""

from __future__ import annotations

import numpy as np

from eval.features.feature_set import FeatureSets
from eval.latent.nearest import feature_points, nearest_rows
from eval.metrics.memorization import USUAL_SHARE, memorized
from eval.reports.context import ReportContext
from eval.reports.part import Absent, Amount, Features, Measures, Part, Setup
from eval.reports.parts.distances import group
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
    return _nearest(report, report.split_features)


def _nearest(report: ReportContext, features: FeatureSets | None) -> np.ndarray:
    """The distance of each image to its nearest training face, (N,); features of these are cached in blocks."""
    assert features is not None
    space = next(space for space in report.spaces if space.name == _SPACE)
    points = feature_points(space, report.protocol.dataset, "train")
    return nearest_rows(features.sets[_SPACE].bank.ordered(), points, 1).distances[:, 0]


def measure(run: RunContext) -> Measures:
    """Of samples."""
    dataset, held_out = run.protocol.dataset, run.report.prepared[_NAME]
    if isinstance(held_out, Absent):
        return {_KEY: Measure(reason=held_out.reason)}
    if run.model.dataset_fingerprint not in ("", dataset.fingerprint):
        return {_KEY: Measure(reason="the training images are those of another data set; give that one as --data")}
    share, limit = memorized(_nearest(run.report, run.sample_features), held_out)
    note = (
        f"nearer than {limit:.3f} to one of {dataset.num_samples('train'):,} training faces, "
        f"as {USUAL_SHARE:.0%} of {len(held_out):,} held-out faces are"
    )
    return {_KEY: Measure(share, note=note)}


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
        prepare=Setup("training faces nearest to held-out ones", held_out_distances),
        space=_SPACE,
        of_stand_ins=True,
    )
]
