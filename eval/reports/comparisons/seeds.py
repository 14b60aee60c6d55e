"""Runs that differ in nothing but their seed: the mean of each number, and how much trainings differ."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from eval.reports.results import Measure, Metric, RunResult, TextTable, format_value
from facegen.model import Model

_OWN = ("seed", "run")
"""Options that may differ."""


def groups_of_seeds(models: Sequence[tuple[str, Any]]) -> list[list[str]]:
    """Names of runs of one configuration and several seeds, in groups of at least two.

    Args:
        models: Models and stand-ins, each with its name in the report.
    """
    groups: dict[str, dict[str, int]] = {}
    for name, model in models:
        if isinstance(model, Model):
            options = {key: value for key, value in model.config.items() if key not in _OWN}
            same = [options, model.weights, model.sampler, model.images_seen, model.dataset_fingerprint]
            groups.setdefault(json.dumps(same, sort_keys=True, default=str), {})[name] = model.config.get("seed", 0)
    return [list(seeds) for seeds in groups.values() if len(set(seeds.values())) > 1]


def seed_table(metrics: Sequence[Metric], runs: Mapping[str, RunResult], group: Sequence[str]) -> TextTable:
    """Mean and standard deviation over the runs of a group, of each number that all of them have."""
    rows = []
    for metric in metrics:
        values = [runs[name].measures[metric.key].value for name in group]
        known = [value for value in values if value is not None]
        if len(known) == len(group):
            over_seeds = Measure(statistics.mean(known), spread=statistics.stdev(known))
            rows.append([metric.group, metric.title, metric.unit, format_value(metric, over_seeds)])
    title = f"{len(group)} seeds: {', '.join(group)}"
    caption = "Mean ± standard deviation over trainings of one configuration that differ in their seed only."
    return TextTable(title, caption, ["", "number", "unit", "mean ± std"], rows, num_text_columns=3)
