"""Training of one trial, in each of its processes, with the code of ``accelerate launch facegen/train.py``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from facegen.options import TrainConfig
from facegen.processes.consensus import main_decides
from facegen.processes.group import make_accelerator
from facegen.runs.branch import branch
from facegen.runs.checkpoint import directory_name, newest_complete
from facegen.runs.metrics_file import read_metrics
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import SNAPSHOTS
from facegen.runs.state_file import read_facts
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from tuning.search.objective import METRICS, SCORE, Objective
from tuning.trials.journal import BRANCHES, IMAGES_SEEN, Entry, Journal, read_branches
from tuning.trials.sweep_plan import SweepPlan

Report = Callable[[Entry], None]


@dataclass(frozen=True)
class Pointer:
    """Names the state of a trial at a moment. Ray's checkpoints hold nothing else: the state itself is in the run."""

    trial: str
    images_seen: int
    id: str
    """Unique."""

    @classmethod
    def to(cls, trial: str, images_seen: int) -> Pointer:
        """A new pointer."""
        return cls(trial, images_seen, uuid.uuid4().hex)


@dataclass(frozen=True)
class Task:
    """One trial, as it is sent to its processes."""

    plan: SweepPlan
    name: str
    params: Mapping[str, Any]
    start: Pointer | None
    """The trial's own last report to Ray or, in population based training, the state of another trial."""


def train_trial(task: Task, report: Report) -> None:
    """Trains a trial from its newest checkpoint to its end; every process of the trial has to call it.

    Args:
        task: The trial.
        report: Called on the main process with every evaluation that Ray does not know yet; does not return if the
            trial is to stop.

    Raises:
        UserError: Options, data or an objective that do not go together.
        TrainingFailed: A loss that is not finite, or a checkpoint that cannot be written.
    """
    config = task.plan.config(task.name, task.params)
    accelerator, storage = make_accelerator(), task.plan.run_storage()
    if storage and accelerator.is_local_main_process:
        for name in {task.name, *([task.start.trial] if task.start else [])}:
            storage.restore(name, task.plan.run_directory(name))
    if accelerator.is_main_process:
        continue_from_other(task, config)
    accelerator.wait_for_everyone()
    run, objective, dataset = Path(config.run), task.plan.space.objective, open_dataset(config.data)
    journal = Journal(run)

    def evaluate(images_seen: int, held_out: Mapping[str, float]) -> None:
        snapshot = run / SNAPSHOTS / directory_name(images_seen)
        entry = measure_entry(objective, snapshot, dataset, images_seen, held_out, accelerator)
        if accelerator.is_main_process:
            journal.add(entry)
            if storage:
                storage.save(task.name, run)
            report(entry)

    images_seen, missing = main_decides(lambda: _catch_up(run, journal, task.start, report))
    if missing is not None:
        evaluate(images_seen, missing)

    def on_saved(trainer: Trainer, held_out: dict[str, float]) -> None:
        if held_out:
            evaluate(trainer.images_seen, held_out)

    Trainer(config).fit(on_saved=on_saved)


def measure_entry(
    objective: Objective,
    snapshot: Path,
    dataset: Dataset,
    images_seen: int,
    held_out: Mapping[str, float],
    accelerator: Accelerator,
) -> Entry:
    """All numbers of one evaluation; every process has to call it, and the result is complete on the main one.

    Raises:
        UserError: A metric that this family lacks, or that cannot be measured here.
    """
    absent = [name for name in objective.weights if not METRICS[name].part and name not in held_out]
    if absent:
        raise UserError(f"validation of this family measures {', '.join(held_out) or 'nothing'}, not {absent[0]}.")
    values = dict(held_out)
    if objective.parts:
        from tuning.trials.trial_metrics import measure_metrics

        values |= measure_metrics(objective, snapshot, dataset, accelerator)
    if not accelerator.is_main_process:
        return values
    return {IMAGES_SEEN: images_seen, SCORE: objective.score(values), **values}


def continue_from_other(task: Task, config: TrainConfig) -> None:
    """Copies another trial's state if Ray asks for it and this has not been done yet."""
    start, run = task.start, Path(config.run)
    if start is None or start.trial == task.name:
        return
    done = read_branches(run)
    if done and done[-1]["pointer"] == start.id and done[-1]["params"] == dict(task.params):
        return
    checkpoints = task.plan.run_directory(start.trial) / CHECKPOINTS
    exact = checkpoints / directory_name(start.images_seen)
    source = exact if exact.is_dir() else newest_complete(checkpoints)
    if source is None:
        raise UserError(f"trial {start.trial}, from which {task.name} is to continue, has no checkpoint any more.")
    branch(source, config)
    entry = {
        "pointer": start.id,
        "from": start.trial,
        IMAGES_SEEN: read_facts(source).images_seen,
        "params": dict(task.params),
    }
    with open(run / BRANCHES, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _catch_up(
    run: Path, journal: Journal, start: Pointer | None, report: Report
) -> tuple[int, dict[str, float] | None]:
    """Reports the evaluations that Ray does not know.

    Returns:
        Images seen at the newest checkpoint (0 without one), and the validation metrics of that moment if the trial was
        killed between the checkpoint and its evaluation.
    """
    newest = newest_complete(run / CHECKPOINTS)
    images_seen = read_facts(newest).images_seen if newest else 0
    journal.cut(images_seen)
    for entry in journal.after(start.images_seen if start else 0):
        report(entry)
    if images_seen == 0 or journal.has(images_seen) or (start and start.images_seen >= images_seen):
        return images_seen, None
    held_out: dict[str, float] = {
        name.removeprefix("val/"): value
        for point in read_metrics(run)
        if point[IMAGES_SEEN] == images_seen
        for name, value in point.items()
        if name.startswith("val/") and isinstance(value, (int, float))
    }
    return images_seen, held_out or None
