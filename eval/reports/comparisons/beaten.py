"""Which runs lose to a baseline, and which come nearer than real faces do, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from eval.features.space_names import SPACES
from eval.reports.parts.distances import keys
from eval.reports.results import Metric, Report, RunResult, format_value

_RECONSTRUCTIONS = ("mse", *(keys(space, "reconstructions")[0] for space in SPACES))
_SAMPLES = tuple(keys(space, "samples")[0] for space in SPACES)


def beaten(report: Report, num_latents: Mapping[str, int]) -> list[str]:
    """A sentence for the reconstructions, and for the samples, of each run in which some baseline is better.

    Args:
        report: With the numbers of all runs and baselines.
        num_latents: By name, of runs and baselines. Baselines without an entry, such as real faces, are not compared;
            reconstructions only with those of baselines of at most as many latents.
    """
    sentences = []
    known = [rival for rival in report.baselines if rival.name in num_latents]
    for run in report.runs:
        for what, compared in (("reconstructions", _RECONSTRUCTIONS), ("samples", _SAMPLES)):
            limit = num_latents.get(run.name, 0) if what == "reconstructions" else math.inf
            rivals = [rival for rival in known if num_latents[rival.name] <= limit]
            better: dict[str, list[str]] = {}
            for metric in report.metrics:
                if metric.key in compared and (best := _best(rivals, run, metric.key)):
                    numbers = f"{_text(metric, run)} against {_text(metric, best)}"
                    better.setdefault(best.name, []).append(f"{metric.title} {numbers}")
            if better:
                first, *others = [(name, f"({', '.join(numbers)})") for name, numbers in better.items()]
                sentence = f"{run.name}: the {what} of {first[0]} are better {first[1]}"
                sentences.append(sentence + "".join(f", and those of {name} {numbers}" for name, numbers in others))
    return sentences


def _best(rivals: Sequence[RunResult], run: RunResult, key: str) -> RunResult | None:
    """The best of those that beat the run; None where none does."""
    own = run.measures[key].value
    values = {rival.name: value for rival in rivals if (value := rival.measures[key].value) is not None}
    if own is None or not values or min(values.values()) >= own:
        return None
    return min((rival for rival in rivals if rival.name in values), key=lambda rival: values[rival.name])


def _text(metric: Metric, run: RunResult) -> str:
    return format_value(metric, run.measures[metric.key])


def nearer_than_real(report: Report) -> list[str]:
    """A sentence for each run whose samples are nearer to the reference, which has training images, than new faces.

    Args:
        report: With the numbers of all runs and baselines.
    """
    return [
        f"{run.name}: its samples are nearer to the reference than real faces outside it ({metric.title} "
        f"{_text(metric, run)} against {_text(metric, real)}): it may repeat training images"
        for real in report.baselines
        if real.name == "real"
        for run in report.runs
        for metric in report.metrics
        if metric.key in _SAMPLES
        for own, floor in [(run.measures[metric.key], real.measures[metric.key])]
        if own.value is not None and floor.value is not None and own.value < floor.value
    ]
