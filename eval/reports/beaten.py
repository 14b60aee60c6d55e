"""Which runs lose to a baseline, and which come nearer than real faces do, in words."""

from __future__ import annotations

from collections.abc import Mapping

from eval.features.space_names import SPACES
from eval.reports.parts.distances import keys
from eval.reports.results import Metric, Report, RunResult, format_value

_RECONSTRUCTIONS = ("mse", *(keys(space, "reconstructions")[0] for space in SPACES))
_SAMPLES = tuple(keys(space, "samples")[0] for space in SPACES)


def beaten(report: Report, num_latents: Mapping[str, int]) -> list[str]:
    """A sentence for each error or distance of a run in which a baseline is better.

    Args:
        report: With the numbers of all runs and baselines.
        num_latents: By name, of runs and baselines. Baselines without an entry, such as real faces, are not compared;
            reconstructions only with those of baselines of at most as many latents.
    """
    return [
        sentence
        for run in report.runs
        for what, compared in (("reconstructions", _RECONSTRUCTIONS), ("samples", _SAMPLES))
        for metric in report.metrics
        if metric.key in compared and (sentence := _sentence(report, run, what, metric, num_latents))
    ]


def nearer_than_real(report: Report) -> list[str]:
    """A sentence for each run whose samples are nearer to the reference, which has training images, than new faces.

    Args:
        report: With the numbers of all runs and baselines.
    """
    return [
        f"{run.name}: its samples are nearer to the reference than real faces outside it ({metric.title} "
        f"{format_value(metric, own)} against {format_value(metric, floor)}): it may repeat training images"
        for real in report.baselines
        if real.name == "real"
        for run in report.runs
        for metric in report.metrics
        if metric.key in _SAMPLES
        for own, floor in [(run.measures[metric.key], real.measures[metric.key])]
        if own.value is not None and floor.value is not None and own.value < floor.value
    ]


def _sentence(report: Report, run: RunResult, what: str, metric: Metric, num_latents: Mapping[str, int]) -> str:
    key = metric.key
    limit = num_latents.get(run.name, 0) if what == "reconstructions" else None
    rivals = {
        value: rival
        for rival in report.baselines
        if rival.name in num_latents and (limit is None or num_latents[rival.name] <= limit)
        if (value := rival.measures[key].value) is not None
    }
    own = run.measures[key]
    if own.value is None or not rivals or min(rivals) >= own.value:
        return ""
    best = rivals[min(rivals)]
    numbers = f"{format_value(metric, own)} against {format_value(metric, best.measures[key])}"
    return f"{run.name}: the {what} of {best.name} are better ({metric.title} {numbers})"
