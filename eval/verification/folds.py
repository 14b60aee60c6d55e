"""The protocol: every score and classifier on the latents of a model, and on random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.metrics.verification import Discrimination, FoldAccuracy, held_out_thresholds
from eval.verification.classifiers import PairFeatures, judge_pairs
from eval.verification.embeddings import embed, own_probabilities, random_latents
from eval.verification.pair_set import PairSet
from eval.verification.similarity import SCORES
from shards.dataset.dataset import Dataset

OWN = "own probability"
"""Name of the score of a model that verifies."""
CONTROL = "control: random latents"
CONTROL_SIZE = 64
_CONTROL_PAIRS = {"scores": 20_000, "classifiers": 6000}
"""Random latents are drawn until this many pairs are judged: the standard error is then below 1 %, even though images
occur in several pairs."""
CONTROL_TOLERANCE = 0.03


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        run: Name of the run.
        method: Score or classifier.
        accuracy: Accuracy over folds.
        discrimination: Measures over the scores of all folds.
    """

    run: str
    method: str
    accuracy: FoldAccuracy
    discrimination: Discrimination


@dataclass(frozen=True)
class Scored:
    """All pairs, judged by one score.

    Attributes:
        line: Line of the table.
        scores: float64 (P,), higher for the same person.
        margins: float64 (P,), score less the threshold from the other folds.
    """

    line: Line
    scores: np.ndarray
    margins: np.ndarray


def by_score(run: str, method: str, scores: np.ndarray, pairs: PairSet) -> Scored:
    """Judges each fold at the threshold that is best on the others."""
    thresholds = held_out_thresholds(scores, pairs.same, pairs.fold)
    is_right = (scores >= thresholds) == (pairs.same == 1)
    line = Line(run, method, FoldAccuracy.of(is_right, pairs.fold), Discrimination.of(scores, pairs.same))
    return Scored(line, scores, scores - thresholds)


def by_classifier(run: str, method: str, latents: np.ndarray, pairs: PairSet, features: PairFeatures) -> Line:
    """Judges each fold with a classifier that was fitted on the others."""
    judged = judge_pairs(latents, pairs.pairs, pairs.same, pairs.fold, method, features)
    accuracy = FoldAccuracy.of(judged.is_right, pairs.fold)
    return Line(run, method, accuracy, Discrimination.of(judged.scores, pairs.same))


def by_latents(
    run: str, latents: np.ndarray, pairs: PairSet, classifiers: Sequence[str], features: PairFeatures
) -> tuple[list[Scored], list[Line]]:
    """Judges latents (N, L) by every score and every classifier."""
    scored = [by_score(run, name, score(*_sides(latents, pairs)), pairs) for name, score in SCORES.items()]
    return scored, [by_classifier(run, name, latents, pairs, features) for name in classifiers]


def by_model(
    run: str,
    model: Any,
    dataset: Dataset,
    pairs: PairSet,
    classifiers: Sequence[str],
    features: PairFeatures,
    batch_size: int,
) -> tuple[list[Scored], list[Line]]:
    """Judges a model's latents; the score of a model that verifies, its own probability, comes first."""
    latents = embed(model, dataset, pairs, batch_size)
    scored, judged = by_latents(run, latents, pairs, classifiers, features)
    if "verify" in model.can:
        probabilities = own_probabilities(model, dataset, pairs, batch_size)
        scored.insert(0, by_score(run, OWN, probabilities, pairs))
    return scored, judged


def control(pairs: PairSet, classifiers: Sequence[str], features: PairFeatures, seed: int) -> list[Line]:
    """Judges random latents: a method that does not stay near 50 % learns the answers from the protocol.

    Few pairs are judged with several draws of random latents; the lines are means over the draws.
    """
    num_draws = {kind: -(-num // len(pairs.same)) for kind, num in _CONTROL_PAIRS.items()}
    scores, judged = [], []
    for draw in range(max(num_draws.values())):
        latents = random_latents(pairs.num_images, CONTROL_SIZE, seed, draw)
        chosen = classifiers if draw < num_draws["classifiers"] else ()
        scored, lines = by_latents(CONTROL, latents, pairs, chosen, features)
        scores.append([result.line for result in scored])
        judged += [lines] if chosen else []
    return [_mean(lines) for draws in (scores, judged) for lines in zip(*draws, strict=True)]


def _sides(latents: np.ndarray, pairs: PairSet) -> tuple[np.ndarray, np.ndarray]:
    return latents[pairs.pairs[:, 0]], latents[pairs.pairs[:, 1]]


def _mean(lines: Sequence[Line]) -> Line:
    accuracies, discriminations = [line.accuracy for line in lines], [line.discrimination for line in lines]
    accuracy = FoldAccuracy(*(_mean_of(accuracies, name) for name in FoldAccuracy.__dataclass_fields__))
    discrimination = Discrimination(*(_mean_of(discriminations, name) for name in Discrimination.__dataclass_fields__))
    return Line(lines[0].run, lines[0].method, accuracy, discrimination)


def _mean_of(values: Sequence[FoldAccuracy] | Sequence[Discrimination], name: str) -> float:
    return float(np.mean([getattr(value, name) for value in values]))
