"""Which runs lose to a baseline, in words."""

from __future__ import annotations

from collections.abc import Mapping

from eval.features.space_names import SPACES
from eval.reports.parts.distances import keys
from eval.reports.results import Report, RunResult, format_value

_RECONSTRUCTIONS = ("mse", *(keys(space, "reconstructions")[0] for space in SPACES))
_SAMPLES = tuple(keys(space, "samples")[0] for space in SPACES)


def beaten(report: Report, num_latents: Mapping[str, int]) -> list[str]:
    """A sentence for each number of a run, all of them lower-is-better, in which a baseline is better.

    Args:
        report: With the numbers of all runs and baselines.
        num_latents: By name, of runs and of baselines; a baseline without an entry beats nobody. Reconstructions are
            compared with those of baselines of at most as many latents.
    """
    return [
        sentence
        for run in report.runs
        for what, compared in (("reconstructions", _RECONSTRUCTIONS), ("samples", _SAMPLES))
        for key in compared
        if key in {metric.key for metric in report.metrics}
        if (sentence := _sentence(report, run, what, key, num_latents))
    ]


def _sentence(report: Report, run: RunResult, what: str, key: str, num_latents: Mapping[str, int]) -> str:
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
    metric = next(metric for metric in report.metrics if metric.key == key)
    best = rivals[min(rivals)]
    numbers = f"{format_value(metric, own)} against {format_value(metric, best.measures[key])}"
    return f"{run.name}: the {what} of {best.name} are better ({metric.title} {numbers})"
