"""From answers to degrees of smile.

For an answer with the reaction time t of a subject whose 5th and 95th percentile of reaction times are ``fast`` and
``slow``:

    strength = (ln slow - ln t) / (ln slow - ln fast), clipped to [0, 1]
    degree   = strength for "smile", -strength for "no smile"

A fast answer is a sure one; the slowest answers count as neither. Times are compared within a subject, because some
people are slower than others, and as logarithms, because their distribution is skewed. The degree of a picture is the
mean over subjects, each of whom counts once, with the mean of his or her answers to the picture.

Answers faster than 150 ms cannot be reactions to the picture and are left out. So are subjects who repeated their
answer to fewer than ``min_consistency`` of the pictures shown twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shards.labeling.answers import Answer

MIN_RT_MS = 150.0
_FAST_PERCENTILE, _SLOW_PERCENTILE = 5, 95
_FEW_ANSWERS = 20


@dataclass(frozen=True)
class Subject:
    """The result of one subject.

    Attributes:
        degrees: Mean degree of each picture.
        num_answers: Number of answers.
        num_too_fast: Number of answers faster than ``MIN_RT_MS``.
        num_repeated: Number of pictures answered twice.
        consistency: Share of them with the same answer; NaN if there are none.
    """

    degrees: Mapping[str, float]
    num_answers: int
    num_too_fast: int
    num_repeated: int
    consistency: float


@dataclass(frozen=True)
class Degrees:
    """The result of all subjects.

    Attributes:
        degrees: Mean degree of each picture over the subjects, -1 to 1.
        subjects: The subjects who count, by name.
        left_out: The reason for each subject who does not, by name.
        alpha_degree: Krippendorff's alpha of the degrees (interval); NaN if no picture has two subjects.
        alpha_sign: Krippendorff's alpha of smile or no smile (nominal).
    """

    degrees: Mapping[str, float]
    subjects: Mapping[str, Subject]
    left_out: Mapping[str, str]
    alpha_degree: float
    alpha_sign: float


def combine(answers: Mapping[str, Sequence[Answer]], min_consistency: float = 0.0) -> Degrees:
    """Averages the degrees of all subjects who pay attention.

    Args:
        answers: By subject.
        min_consistency: Lowest share of repeated pictures with the same answer, 0 to 1.
    """
    all_subjects = {name: evaluate(given) for name, given in answers.items()}
    left_out = {}
    for name, subject in all_subjects.items():
        if not subject.degrees:
            left_out[name] = "no answers"
        elif subject.consistency < min_consistency:  # False if nothing was repeated: the consistency is NaN.
            left_out[name] = f"only {subject.consistency:.0%} of {subject.num_repeated} repeats answered alike"
    subjects = {name: subject for name, subject in all_subjects.items() if name not in left_out}
    given: dict[str, list[float]] = defaultdict(list)
    for subject in subjects.values():
        for image, degree in subject.degrees.items():
            given[image].append(degree)
    degrees = {image: float(np.mean(given[image])) for image in sorted(given)}
    counts = [len(given[image]) for image in degrees]
    pictures = np.repeat(np.arange(len(counts)), counts)
    values = np.array([degree for image in degrees for degree in given[image]])
    signs = np.sign(values)[:, None] == np.array([-1, 0, 1])
    return Degrees(
        degrees, subjects, left_out, krippendorff_alpha(pictures, values[:, None]), krippendorff_alpha(pictures, signs)
    )


def evaluate(answers: Sequence[Answer]) -> Subject:
    """Degrees and attention of one subject."""
    timely = [answer for answer in answers if answer.rt_ms >= MIN_RT_MS]
    strengths = strength(np.array([answer.rt_ms for answer in timely]))
    given: dict[str, list[float]] = defaultdict(list)
    signs: dict[str, list[bool]] = defaultdict(list)
    for answer, value in zip(timely, strengths.tolist(), strict=True):
        given[answer.image].append(value if answer.smile else -value)
        signs[answer.image].append(answer.smile)
    repeated = [seen for seen in signs.values() if len(seen) > 1]
    same = [len(set(seen)) == 1 for seen in repeated]
    return Subject(
        degrees={image: float(np.mean(values)) for image, values in given.items()},
        num_answers=len(answers),
        num_too_fast=len(answers) - len(timely),
        num_repeated=len(repeated),
        consistency=float(np.mean(same)) if same else math.nan,
    )


def strength(rt_ms: np.ndarray) -> np.ndarray:
    """How sure the answers of one subject are, 0 to 1, from their reaction times (N,) in milliseconds.

    If all are equally fast, all are 1.
    """
    if not len(rt_ms):
        return rt_ms
    logs = np.log(rt_ms)
    fast, slow = np.percentile(logs, [_FAST_PERCENTILE, _SLOW_PERCENTILE])
    if slow <= fast:
        return np.ones_like(logs)
    return np.clip((slow - logs) / (slow - fast), 0, 1)


def notes(result: Degrees) -> list[str]:
    """Sentences about subjects who gave few or hasty answers."""
    found = []
    for name, subject in result.subjects.items():
        if subject.num_answers < _FEW_ANSWERS:
            found.append(f"{name} gave only {subject.num_answers} answers, too few to tell fast from slow.")
        if subject.num_too_fast:
            found.append(
                f"{subject.num_too_fast} answers of {name} took less than {MIN_RT_MS:.0f} ms and were left out."
            )
    return found


def krippendorff_alpha(pictures: np.ndarray, points: np.ndarray) -> float:
    """Krippendorff's alpha (Content Analysis, 4th edition, 2018, chapter 12) where points differ by squared distance.

    Points of one number give the interval alpha; points of one column per class, 1 for the answer's class and 0
    elsewhere, the nominal one. The squared distances of all ordered pairs of m points sum to 2 m S, where S is the sum
    of their squared distances to their mean. So time and memory are linear in the answers:

        alpha = 1 - (n - 1) / n * (sum over pictures u of S_u m_u / (m_u - 1)) / S

    The n answers are those to pictures with several of them, m_u to picture u.

    Args:
        pictures: int (N,), the picture of each answer.
        points: (N, D).

    Returns:
        At most 1; 1 if all answers are the same, NaN if no picture has several.
    """
    unit, counts = np.unique(pictures, return_inverse=True, return_counts=True)[1:]
    is_paired = counts[unit] > 1
    unit, points = unit[is_paired], points[is_paired].astype(np.float64)
    if not len(points):
        return math.nan
    if (points == points[0]).all():
        return 1.0
    sums = np.stack([np.bincount(unit, column, len(counts)) for column in points.T], axis=1)
    within = np.bincount(unit, ((points - sums[unit] / counts[unit, None]) ** 2).sum(axis=1), len(counts))
    observed = (within * counts / np.maximum(counts - 1, 1)).sum() / len(points)
    expected = ((points - points.mean(axis=0)) ** 2).sum() / (len(points) - 1)
    return float(1 - observed / expected)
