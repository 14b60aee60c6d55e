"""Checks of a sweep before its first trial trains."""

from __future__ import annotations

from facegen.reporting.validation import metric_names
from facegen.training.assembly import build_family
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tuning.search.objective import METRICS
from tuning.trials.sweep_plan import SweepPlan


def check_trials(plan: SweepPlan, dataset: Dataset) -> None:
    """Builds the config of enough trials to see every listed value and both ends of every range.

    Raises:
        UserError: Options that training would refuse, metrics that its validation lacks, or, in population based
            training, options that change the networks.
    """
    space = plan.space
    first = {name: axis.examples[0] for name, axis in space.search.items()}
    others = [first | {name: value} for name, axis in space.search.items() for value in axis.examples[1:]]
    configs = [plan.config("check", params) for params in (first, *others)]
    family = build_family(configs[0], dataset)
    for name in space.objective.weights:
        if not METRICS[name].part and name not in metric_names(family):
            raise UserError(
                f"{space.family} has no held-out metric {name}; it has {', '.join(metric_names(family)) or 'none'}."
            )
    if space.scheduler.kind != "pbt":
        return
    shapes = {key: tensor.shape for key, tensor in family.state_dict().items()}
    for params, config in zip(others, configs[1:], strict=True):
        changed = {key: tensor.shape for key, tensor in build_family(config, dataset).state_dict().items()}
        if changed != shapes:
            name = next(name for name in params if params[name] != first[name])
            raise UserError(f"pbt changes options while training, and {name} changes the networks; fix it instead.")
