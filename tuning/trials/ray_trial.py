"""One trial as Ray Tune runs it: training through Ray Train, in this process or in several others."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from shards.base.records import read_record
from tuning.trials.journal import IMAGES_SEEN, Entry
from tuning.trials.sweep_plan import SweepPlan
from tuning.trials.task import Pointer, Task, train_trial

LOG = "train.log"
_POINTER = "trial.json"


def run_trial(params: dict[str, Any], plan: SweepPlan) -> None:
    """The function that Ray Tune calls; it resumes the trial wherever it is.

    Args:
        params: The trial's values of the options that are searched.
        plan: What the sweep's trials share.
    """
    name = tune.get_context().get_trial_name()
    assert name is not None
    task = Task(plan, name, params, _start())
    if plan.num_workers == 1:
        _train_here(task)
    else:
        _train_apart(task)


def _start() -> Pointer | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as directory:
        return read_record(Path(directory) / _POINTER, Pointer, "rerun the sweep with another --out")


def _report_to_ray(name: str, entry: Entry) -> None:
    """Reports an evaluation and waits for the scheduler's decision; does not return if the trial is to stop."""
    pointer = Pointer.to(name, int(entry[IMAGES_SEEN]))
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / _POINTER).write_text(json.dumps(asdict(pointer)) + "\n", encoding="utf-8")
        tune.report(dict(entry), checkpoint=tune.Checkpoint.from_directory(directory))


def _train_here(task: Task) -> None:
    """Trains in this process, which saves the seconds that another one takes to start."""

    def train() -> None:
        with _log(task):
            train_trial(task, lambda entry: _report_to_ray(task.name, entry))

    TorchTrainer(
        train, scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=task.plan.gpus_per_worker > 0)
    ).fit()


def _train_apart(task: Task) -> None:
    """Trains in several processes; they wait at each evaluation for the scheduler's decision."""
    reports, decisions = Queue(1, {"num_cpus": 0}), Queue(1, {"num_cpus": 0})

    def report(entry: Entry) -> None:
        reports.put(entry)
        decisions.get()

    def train() -> None:
        with _log(task):
            train_trial(task, report)

    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"  # The patch writes every line of the log twice.
    plan = task.plan
    storage_path, file_system = plan.ray_storage()
    resources = {"CPU": plan.cpus_per_worker, "GPU": plan.gpus_per_worker}
    trainer = TorchTrainer(
        train,
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.num_workers, use_gpu=plan.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{task.name}", storage_path=storage_path, storage_filesystem=file_system
        ),
    )
    group = _Background(trainer.fit)
    while group.is_alive():
        try:
            entry = reports.get(timeout=0.5)
        except Empty:
            continue
        _report_to_ray(task.name, entry)
        decisions.put(True)
    group.finish()


class _Background(threading.Thread):
    """A call in its own thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Calls, and keeps the error."""
        try:
            self._call()
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        """Waits for the end of the call; raises its error."""
        self.join()
        if self._error is not None:
            raise self._error


@contextmanager
def _log(task: Task):
    """Appends what training prints to a file in the run directory."""
    run = task.plan.run_directory(task.name)
    run.mkdir(parents=True, exist_ok=True)
    with open(run / LOG, "a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield
