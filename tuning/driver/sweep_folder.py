"""The folder of a sweep: its plan, checked, and whether the folder is new, resumed or somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facegen.runs.option_changes import differences
from shards.base.errors import UserError
from shards.base.files import only_one, writing_to
from shards.dataset.mixture import absolute, open_dataset
from shards.loading.reader import check_split
from tuning.driver.checks import check_trials
from tuning.driver.cluster import Need
from tuning.driver.ray_state import RayState
from tuning.search.objective import SPLIT
from tuning.search.space import read_space, space_to_dict
from tuning.sweep_config import SweepConfig
from tuning.trials.sweep_file import SWEEP_FILE, plain, read_sweep, write_sweep
from tuning.trials.sweep_plan import SweepPlan

_LOCK = "driver.lock"


def make_plan(config: SweepConfig) -> SweepPlan:
    """What the trials share, checked as far as it can be before one of them trains.

    Raises:
        UserError: A space, options or data that do not go together, or a storage that cannot be reached.
    """
    names = ("num_samples", "max_images", "evaluate_every_images")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(config, name)) is not None}
    changes |= {"scheduler": {"kind": config.scheduler}} if config.scheduler else {}
    space = read_space(config.space, changes, config.options)
    dataset = open_dataset(config.data)
    check_split(dataset, SPLIT)
    need = Need.of(config)
    plan = SweepPlan(
        space,
        absolute(config.data),
        Path(config.out).resolve(),
        need.num_workers,
        need.cpus_per_worker,
        need.gpus_per_worker,
        config.storage.rstrip("/") if config.storage else None,
    )
    plan.run_storage()  # Fails here if it cannot be reached.
    check_trials(plan, dataset)
    return plan


@contextmanager
def driving(plan: SweepPlan) -> Iterator[None]:
    """Keeps other drivers out of the sweep's folder.

    Raises:
        UserError: Another one drives it, or the folder holds other files.
    """
    _refuse_other_files(plan)
    with only_one(plan.out / _LOCK, f"another sweep is running in {plan.out}; wait for it, or stop it."):
        yield


def claim(plan: SweepPlan) -> bool:
    """Takes the sweep's folder.

    Returns:
        Whether the sweep is new.

    Raises:
        UserError: The folder holds a sweep with other options, or other files.
    """
    ours = plain(
        {
            "space": space_to_dict(plan.space),
            "data": plan.data,
            "data_fingerprint": open_dataset(plan.data).fingerprint,
            "workers_per_trial": plan.num_workers,
            "storage": plan.storage,
        }
    )
    if (plan.out / SWEEP_FILE).is_file():
        changed = differences(read_sweep(plan.out), ours)
        if changed:
            raise UserError(
                f"{plan.out} was started with other options: {', '.join(changed)}; give the same, or another --out."
            )
        return not RayState(plan).exists()
    _refuse_other_files(plan)
    with writing_to(plan.out, "give another --out"):
        plan.out.mkdir(parents=True, exist_ok=True)
    write_sweep(plan.out, ours)
    return True


def _refuse_other_files(plan: SweepPlan) -> None:
    found = {path.name for path in plan.out.iterdir()} if plan.out.is_dir() else set()
    if SWEEP_FILE not in found and found - {_LOCK}:
        raise UserError(f"{plan.out} holds other files; give a new --out, or one with an earlier sweep.")
