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
from typing import Literal

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
    table = np.array([[subject.degrees.get(image, np.nan) for image in degrees] for subject in subjects.values()])
    return Degrees(degrees, subjects, left_out, _alpha(table, "interval"), _alpha(np.sign(table), "nominal"))


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


def _alpha(table: np.ndarray, level: Literal["interval", "nominal"]) -> float:
    """Krippendorff's alpha of subjects x pictures (NaN: no answer); NaN if undefined."""
    import krippendorff

    if table.ndim < 2 or not (np.isfinite(table).sum(axis=0) > 1).any():
        return math.nan
    values = table[np.isfinite(table)]
    if (values == values[0]).all():
        return 1.0
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))
