"""Ray Tune over the trials of a sweep: a new one, or one that is resumed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from facegen.processes.failures import DISK_ERRORS
from shards.base.errors import UserError
from tuning.driver import old_pickles
from tuning.driver.cluster import Need
from tuning.driver.ray_state import EXPERIMENT, SCHEDULER, RayState
from tuning.driver.schedulers import MODE, ResumableASHA, make_scheduler, make_searcher
from tuning.driver.sweep_progress import SweepProgress
from tuning.ledger import TrialRecord, read_ledger
from tuning.search.objective import SCORE
from tuning.search.space import Space
from tuning.sweep_config import SweepConfig
from tuning.trials.ray_trial import run_trial
from tuning.trials.sweep_plan import SweepPlan, trial_name

_POINTERS_KEPT = 10
"""Pointers to checkpoints that Ray keeps of each trial: a few bytes each, and other trials may continue from them."""


def run_trials(config: SweepConfig, plan: SweepPlan, is_new: bool, limit: int) -> list[TrialRecord]:
    """Runs all trials that are not over, to their end.

    Args:
        config: Options of the sweep.
        plan: What the trials share.
        is_new: False resumes the sweep in the folder.
        limit: Trials that there are resources for.

    Raises:
        UserError: A population that cannot run as a whole, or a sweep that is not to be trusted.
    """
    space = plan.space
    objective = space.objective.describe()
    print(f"{space.num_trials} trials of {space.family}, {space.max_images:,} images each, by {objective}")
    state = RayState(plan)
    if not is_new and state.restore(config.trust):
        tuner = _restored_tuner(config, plan)
    else:
        state.begin()
        tuner = _new_tuner(config, plan, limit)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # SweepProgress prints what happens to a trial.
    with disk_errors(plan.out):
        tuner.fit()
    records, storage = read_ledger(plan.out), plan.run_storage()
    if storage is not None:
        for record in records:
            storage.fetch(record.name, plan.run_directory(record.name))
    return records


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turns a disk's error inside into one sentence; Ray wraps what its hooks raise in errors of its own.

    Raises:
        UserError: The disk is full, read-only or broken.
    """
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None and not (isinstance(link, OSError) and link.errno in DISK_ERRORS):
            link = link.__cause__ or link.__context__
        if link is None:
            raise
        raise UserError(
            f"cannot write to {out} ({link.strerror}); its trials are kept: fix this, then rerun the command to resume."
        ) from None


def _trainable(config: SweepConfig, plan: SweepPlan) -> Any:
    return tune.with_resources(partial(run_trial, plan=plan), _resources(Need.of(config)))


def _new_tuner(config: SweepConfig, plan: SweepPlan, limit: int) -> tune.Tuner:
    space, (path, system) = plan.space, plan.ray_storage()
    return tune.Tuner(
        _trainable(config, plan),
        param_space={} if space.searcher == "optuna" else {n: axis.domain() for n, axis in space.search.items()},
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode=MODE,
            scheduler=make_scheduler(space, plan.out / SCHEDULER),
            search_alg=make_searcher(space),
            num_samples=space.num_samples,
            max_concurrent_trials=concurrency(config, space, limit),
            reuse_actors=plan.num_workers == 1,
            trial_name_creator=partial(_name, changes=space.scheduler.kind == "pbt"),
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=path,
            storage_filesystem=system,
            verbose=0,
            callbacks=[SweepProgress(plan, config.keep_best)],
            failure_config=tune.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=_POINTERS_KEPT),
        ),
    )


def _restored_tuner(config: SweepConfig, plan: SweepPlan) -> tune.Tuner:
    print("resuming the sweep")
    old_pickles.make_readable()
    path, system = plan.ray_storage()
    tuner = tune.Tuner.restore(
        f"{path}/{EXPERIMENT}",
        trainable=_trainable(config, plan),
        resume_errored=config.retry_failed,
        storage_filesystem=system,
    )
    # Ray takes only the trainable anew; the rest comes from its pickles, which name the folder where the sweep began.
    restored = tuner._local_tuner
    assert restored is not None  # There is a remote one only under a Ray client, which no sweep uses.
    restored.get_run_config().callbacks = [SweepProgress(plan, config.keep_best)]
    scheduler = restored._tune_config.scheduler
    if isinstance(scheduler, ResumableASHA):
        scheduler.state = plan.out / SCHEDULER
    return tuner


def concurrency(config: SweepConfig, space: Space, limit: int) -> int | None:
    """How many trials may run at a time; None leaves it to Ray.

    Raises:
        UserError: A population that cannot run as a whole.
    """
    asked = min(limit, config.max_concurrent or limit)
    if space.scheduler.kind == "pbt":
        if asked < space.num_samples and (config.max_concurrent or config.workers_per_trial > 1):
            raise UserError(
                f"pbt compares {space.num_samples} trials with each other, and only {asked} may run at once: lower "
                "--num_samples, or leave out --max_concurrent and --workers_per_trial, and they take turns."
            )
        return None
    # Ray Tune does not see what workers reserve for themselves, and Optuna learns only from trials that are over.
    return asked if config.max_concurrent or config.workers_per_trial > 1 or space.searcher == "optuna" else None


def _resources(need: Need) -> tune.PlacementGroupFactory:
    """What Ray reserves for a trial: all of it, or next to nothing where its workers reserve their own."""
    return tune.PlacementGroupFactory([need.per_worker() if need.num_workers == 1 else {"memory": 1.0}])


def _name(trial: Any, changes: bool) -> str:
    return trial_name(int(trial.experiment_tag.split("_")[0]), trial.config, changes)
