"""Whether a face stays the same person, in the space of a face recognizer: reconstructed, edited, and on its way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from eval.reports.part import Amount, Features, Measures, Part, missing
from eval.reports.parts.distances import RECONSTRUCTION_FEATURES
from eval.reports.parts.reconstruction import GROUP
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext

_SPACE = "face"
_COSINE, _DISTANCE = "identity_cosine_face", "identity_distance_face"
_ROWS = [
    Metric(
        _COSINE, "Identity-Face, cosine", GROUP, "", "higher", ".4f", "of a face's features and its reconstruction's"
    ),
    Metric(
        _DISTANCE, "Identity-Face, distance", GROUP, "", "lower", ".4f", "likewise; below 0.6 is one person to dlib"
    ),
]


def measure(run: RunContext) -> Measures:
    """Means over the faces whose features are kept."""
    keys = (_COSINE, _DISTANCE)
    if _SPACE in run.report.absent_spaces:
        return missing(keys, run.report.absent_spaces[_SPACE])
    assert run.report.split_features is not None
    originals = run.report.split_features.sets[_SPACE].bank.ordered()
    made = run[RECONSTRUCTION_FEATURES].sets[_SPACE].bank.ordered()
    others = np.roll(originals, len(originals) // 2, axis=0)
    usual = np.mean(cosines(originals, others)), np.mean(_distances(originals, others))
    own = np.mean(cosines(originals, made)), np.mean(_distances(originals, made))
    return {
        key: Measure(float(value), note=f"{different:.4f} for two held-out faces")
        for key, value, different in zip(keys, own, usual, strict=True)
    }


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of features (..., D), (...)."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(axis=-1) / lengths


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)


def identity_note(
    run: RunContext, originals: np.ndarray, images: np.ndarray, steps: Sequence[str], start: str = "the original"
) -> str:
    """A sentence on how far edited faces are from their originals; empty where the space was not asked for.

    Args:
        run: With the report's feature spaces.
        originals: uint8 (N, H, W, C).
        images: uint8 (N, S, H, W, C): each of them at S steps.
        steps: Names of the steps.
        start: What the originals are called.
    """
    space = next((space for space in run.report.spaces if space.name == _SPACE), None)
    if space is None:
        return ""
    first = space(torch.from_numpy(originals))
    made = space(torch.from_numpy(images.reshape(-1, *images.shape[2:]))).reshape(*images.shape[:2], -1)
    means = _distances(first[:, None], made).mean(axis=0)
    listed = ", ".join(f"{mean:.2f} at {step}" for step, mean in zip(steps, means, strict=True))
    return f" Mean distance from {start} in the space face: {listed}."


PARTS = [
    Part(
        name="identity",
        content="likeness of faces and their reconstructions; needs the space face",
        rows=_ROWS,
        measure=measure,
        needs=("encode", "decode"),
        lacking="does not reconstruct",
        statistics=(RECONSTRUCTION_FEATURES,),
        features=Features(split=Amount.ALL),
        space=_SPACE,
        of_stand_ins=True,
    )
]
