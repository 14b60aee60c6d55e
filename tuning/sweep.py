"""Searches training options: ``python -m tuning.sweep SPACE --data DIR --out DIR``.

The same command goes on with a sweep that was interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

# Before Ray is imported: no tables and files of its own beside the sweep's, and a state that is never old.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import yaml
from ray import tune

from facegen.processes.group import make_accelerator
from facegen.runs.option_changes import differences
from shards.base import cli
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.reader import check_split
from tuning.checks import check_trials
from tuning.cluster import Need, connected, max_concurrent
from tuning.ledger import TrialRecord, read_ledger, table
from tuning.objective import SCORE, SPLIT
from tuning.progress import Progress
from tuning.schedulers import MODE, make_scheduler, make_searcher
from tuning.space import Space, read_space, space_to_dict
from tuning.trial import run_trial
from tuning.trial_plan import SWEEP_FILE, Plan, trial_name

_SCHEDULER = "scheduler.state"
_EXPERIMENT = "sweep"
_POINTERS_KEPT = 10
"""Of each trial; each is a few bytes, and others may go on from them."""


@dataclass
class SweepConfig:
    """Options of a sweep."""

    space: str
    """Space file, or the name of a space that ships with the project."""
    data: str
    """Packed data set; trials train on its train split and are compared on its val split."""
    out: str
    """Directory of the sweep; the same command goes on with what is there."""
    num_samples: int | None = None
    """Trials, instead of the space's; with grids, passes through all their combinations."""
    max_images: int | None = None
    """Images of a trial, instead of the space's."""
    evaluate_every_images: int | None = None
    """Images between two evaluations, instead of the space's."""
    scheduler: Literal["fifo", "asha", "pbt"] | None = None
    """Scheduler with its defaults, instead of the space's."""
    options: dict[str, Any] = field(default_factory=dict)
    """Training options for all trials, over those of the space: '{"optim.lr": 0.001, "seed": 1}'."""
    cpus_per_trial: float = 1.0
    """CPUs of one trial, over all its workers."""
    gpus_per_trial: float = 0.0
    """GPUs of one trial, over all its workers; a fraction shares one."""
    workers_per_trial: int = 1
    """Processes that train one trial together."""
    storage: str | None = None
    """Where machines that share no file system keep checkpoints: s3://…, gs://…, any URL of fsspec. Each trial then
    trains in a directory of its own machine, is copied there at every evaluation, and comes to --out at the end."""
    address: str | None = None
    """Ray cluster to run on, such as auto; Ray is started on this machine when null."""
    num_cpus: int | None = None
    """CPUs that Ray may use where it is started; all when null."""
    max_concurrent: int | None = None
    """Trials at a time; as many as there are resources for when null."""
    max_failures: int = 2
    """How often a trial that broke off goes on from its newest checkpoint, before it is given up."""
    retry_failed: bool = False
    """Try trials again that were given up before."""
    keep_best: int = 5
    """Trials that keep their checkpoints when they have ended; the others keep their newest weights only."""

    report: bool = True
    """Write the report at the end, as python -m tuning.report does."""
    num_report_images: int = 1_000
    """Held-out images of the report, and as many samples."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("cpus_per_trial", "workers_per_trial", "num_cpus", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}.")
        for name in ("gpus_per_trial", "max_failures", "keep_best"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
        if self.address and self.num_cpus:
            raise ValueError("num_cpus is of a Ray that is started here; leave it out with address.")

    @property
    def need(self) -> Need:
        """What one trial takes."""
        workers = self.workers_per_trial
        return Need(workers, self.cpus_per_trial / workers, self.gpus_per_trial / workers)


def main() -> None:
    """The entry point."""
    config = cli.parse(
        SweepConfig,
        prog="python -m tuning.sweep",
        description="Trains many configurations with Ray Tune and compares them on held-out faces.",
        positional=["space"],
    )
    plan = make_plan(config)
    is_new = claim(config, plan)
    with connected(config.address, config.num_cpus):
        limit = max_concurrent(config.need)
        records = run(config, plan, is_new, limit)
    print(f"\n{table(records)}\n", flush=True)
    if any(record.status in ("waiting", "running") for record in records):
        print("interrupted; the same command goes on")
        sys.exit(130)
    if config.report and any(record.values for record in records):
        from tuning.report import SweepReportConfig, write_sweep_report

        request = SweepReportConfig(config.out, config.data, num_images=config.num_report_images)
        write_sweep_report(request, make_accelerator())
    failed = [record for record in records if record.status == "failed"]
    if len(failed) == len(records):
        sys.exit(1)


def make_plan(config: SweepConfig) -> Plan:
    """What the trials share, checked as far as it can be before one of them trains.

    Raises:
        UserError: A space, options or data that do not go together.
    """
    names = ("num_samples", "max_images", "evaluate_every_images")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(config, name)) is not None}
    changes |= {"scheduler": {"kind": config.scheduler}} if config.scheduler else {}
    space = read_space(config.space, changes, config.options)
    dataset = Dataset(config.data)
    check_split(dataset, SPLIT)
    out, need = Path(config.out).resolve(), config.need
    plan = Plan(
        space,
        config.data if dataset.remote else str(Path(config.data).resolve()),
        out,
        need.num_workers,
        need.cpus_per_worker,
        need.gpus_per_worker,
        config.storage.rstrip("/") if config.storage else None,
    )
    plan.run_storage()  # It can be reached, or this says why not.
    check_trials(plan, dataset)
    return plan


def claim(config: SweepConfig, plan: Plan) -> bool:
    """Takes the sweep's directory.

    Returns:
        Whether the sweep is new.

    Raises:
        UserError: It holds a sweep with other options, or other files.
    """
    ours = {
        "space": space_to_dict(plan.space),
        "data": plan.data,
        "data_fingerprint": Dataset(plan.data).fingerprint,
        "workers_per_trial": plan.num_workers,
        "storage": plan.storage,
    }
    ours = yaml.safe_load(yaml.safe_dump(ours))
    file = plan.out / SWEEP_FILE
    if file.is_file():
        changed = differences(yaml.safe_load(file.read_text()), ours)
        if changed:
            raise UserError(
                f"{plan.out} was started with other options: {', '.join(changed)}; give the same, or another --out."
            )
        path, system = plan.ray_storage()
        return not tune.Tuner.can_restore(f"{path}/{_EXPERIMENT}", storage_filesystem=system)
    if plan.out.is_dir() and any(plan.out.iterdir()):
        raise UserError(f"{plan.out} holds other files; give a new --out, or one with an earlier sweep.")
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(ours, sort_keys=False))
    except OSError as error:
        raise UserError(f"cannot write to {plan.out} ({error.strerror}); give another --out.") from None
    return True


def run(config: SweepConfig, plan: Plan, is_new: bool, limit: int) -> list[TrialRecord]:
    """Runs all trials that are not over, to their end.

    Args:
        config: Options of the sweep.
        plan: What the trials share.
        is_new: False goes on with the sweep that is there.
        limit: Trials that there are resources for.
    """
    space = plan.space
    objective = space.objective.describe()
    print(f"{space.num_trials} trials of {space.family}, {space.max_images:,} images each, by {objective}")
    path, system = plan.ray_storage()
    trainable = tune.with_resources(partial(run_trial, plan=plan), resources(config.need))
    if is_new:
        tuner = tune.Tuner(
            trainable,
            param_space={} if space.searcher == "optuna" else {n: axis.domain() for n, axis in space.search.items()},
            tune_config=tune.TuneConfig(
                metric=SCORE,
                mode=MODE,
                scheduler=make_scheduler(space, plan.out / _SCHEDULER),
                search_alg=make_searcher(space),
                num_samples=space.num_samples,
                max_concurrent_trials=concurrency(config, space, limit),
                reuse_actors=plan.num_workers == 1,
                trial_name_creator=partial(_name, changes=space.scheduler.kind == "pbt"),
            ),
            run_config=tune.RunConfig(
                name=_EXPERIMENT,
                storage_path=path,
                storage_filesystem=system,
                verbose=0,
                callbacks=[Progress(plan, config.keep_best)],
                failure_config=tune.FailureConfig(max_failures=config.max_failures),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=_POINTERS_KEPT),
            ),
        )
    else:
        print("going on with the sweep that is there")
        tuner = tune.Tuner.restore(
            f"{path}/{_EXPERIMENT}",
            trainable=trainable,
            resume_errored=config.retry_failed,
            storage_filesystem=system,
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # Whatever happens to a trial is told by Progress.
    tuner.fit()
    records, storage = read_ledger(plan.out), plan.run_storage()
    for record in records if storage else ():
        assert storage is not None
        storage.fetch(record.name, plan.run_directory(record.name))
    return records


def concurrency(config: SweepConfig, space: Space, limit: int) -> int | None:
    """How many trials there may be at a time; None leaves it to what Ray has room for.

    Raises:
        UserError: A population that cannot be there as a whole.
    """
    asked = min(limit, config.max_concurrent or limit)
    if space.scheduler.kind == "pbt":
        if asked < space.num_samples and (config.max_concurrent or config.workers_per_trial > 1):
            raise UserError(
                f"pbt compares {space.num_samples} trials with each other, and only {asked} may run at once: lower "
                "--num_samples, or leave out --max_concurrent and --workers_per_trial, and they take turns."
            )
        return None
    # Workers reserve their machines by themselves, behind Ray Tune's back; and Optuna learns from trials that are over.
    return asked if config.max_concurrent or config.workers_per_trial > 1 or space.searcher == "optuna" else None


def resources(need: Need) -> tune.PlacementGroupFactory:
    """What Ray reserves for a trial itself: all of it, or next to nothing where its workers reserve their own."""
    return tune.PlacementGroupFactory([need.per_worker() if need.num_workers == 1 else {"memory": 1.0}])


def _name(trial: Any, changes: bool) -> str:
    return trial_name(int(trial.experiment_tag.split("_")[0]), trial.config, changes)


if __name__ == "__main__":
    cli.run(main)
