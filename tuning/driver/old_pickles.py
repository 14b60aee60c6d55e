"""Sweeps that were interrupted under an earlier release: Ray's files name classes by the modules they lay in then."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

# By release: 0.1.
_MOVED = {
    "tuning.axis": {"Axis": "tuning.search.axis:SearchAxis"},
    "tuning.objective": {"Objective": "tuning.search.objective:Objective"},
    "tuning.plan": {
        "Plan": "tuning.trials.sweep_plan:SweepPlan",
        "trial_name": "tuning.trials.sweep_plan:trial_name",
    },
    "tuning.progress": {"Progress": "tuning.driver.sweep_progress:SweepProgress"},
    "tuning.schedulers": {
        "Population": "tuning.driver.schedulers:Population",
        "ResumableASHA": "tuning.driver.schedulers:ResumableASHA",
    },
    "tuning.space": {
        "SchedulerConfig": "tuning.search.space:SchedulerConfig",
        "Space": "tuning.search.space:Space",
    },
}
"""Where each name of an old module is now, as ``module:attribute``."""


def make_readable() -> None:
    """Lets unpickling find the old names."""
    for old, names in _MOVED.items():
        module = ModuleType(old)
        for name, place in names.items():
            where, _, attribute = place.partition(":")
            setattr(module, name, getattr(import_module(where), attribute))
        sys.modules[old] = module
