"""Follows a sweep: prints what happens, keeps the table, and deletes checkpoints that are no longer needed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from facegen.runs.checkpoint import prune
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import SNAPSHOTS
from tuning.driver.ray_state import RayState
from tuning.ledger import TrialRecord, ranked, write_ledger
from tuning.search.objective import METRICS, SCORE
from tuning.trials.journal import IMAGES_SEEN, read_branches
from tuning.trials.sweep_plan import SweepPlan, plain

_LINE = "  {name}: {images:,} images | {values}{best}"


class SweepProgress(tune.Callback):
    """Called by Ray Tune in the process that drives the sweep."""

    _ray_state: RayState | None = None  # Ray pickles this object, in older releases without it.

    def __init__(self, plan: SweepPlan, keep_best: int) -> None:
        """Follows the sweep of ``plan``; of the trials that are over, the best ``keep_best`` keep their checkpoints."""
        self._plan = plan
        self._keep_best = keep_best
        self._errors: dict[str, str] = {}
        self._best: float | None = None
        self._num_ended = 0

    def get_state(self) -> dict[str, Any]:
        """What a resumed sweep needs."""
        return {"errors": self._errors, "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what ``get_state`` returned."""
        self._errors, self._best = state["errors"], state["best"]

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Prints that a trial starts or resumes."""
        print(f"  {trial} {'resumes' if self._plan.run_directory(str(trial)).is_dir() else 'starts'}", flush=True)
        self._save(trials)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Prints an evaluation."""
        values = _values(result)
        is_best = self._best is None or values[SCORE] < self._best
        if is_best:
            self._best = values[SCORE]
        text = " | ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(
            _LINE.format(name=trial, images=result[IMAGES_SEEN], values=text, best=" | best" if is_best else ""),
            flush=True,
        )
        self._save(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Prints how a trial ended."""
        print(f"  {trial} {self._end(trial)}", flush=True)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Prints why a trial is retried."""
        print(f"  {trial} failed and is retried: {self._note_error(trial)}", flush=True)
        self._save(trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Prints why a trial was given up."""
        print(f"  {trial} failed: {self._note_error(trial)}", flush=True)
        self._save(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Keeps Ray's files; updates the table when a trial is over: the hooks above run before its status changes."""
        self._keep_ray_state(trials)
        num_ended = sum(trial.is_finished() for trial in trials)
        if num_ended != self._num_ended:
            self._num_ended = num_ended
            self._save(trials)
            self._free_disk(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Completes the table."""
        self._keep_ray_state(trials)
        self._save(trials)
        self._free_disk(trials)

    def _keep_ray_state(self, trials: list[Trial]) -> None:
        """Follows Ray's own saving, which comes before the hooks that call this."""
        if not trials or trials[0].storage is None:
            return
        self._ray_state = self._ray_state or RayState(self._plan)
        self._ray_state.keep(Path(trials[0].storage.experiment_driver_staging_path))

    def _save(self, trials: list[Trial]) -> None:
        write_ledger(self._plan.out, [self._record(trial) for trial in trials])

    def _record(self, trial: Trial) -> TrialRecord:
        result = trial.last_result or {}
        run = self._plan.run_directory(str(trial))
        return TrialRecord(
            name=str(trial),
            params={name: plain(value) for name, value in trial.config.items()},
            status=self._status(trial),
            images_seen=int(result.get(IMAGES_SEEN, 0)),
            values=_values(result),
            num_failures=trial.num_failures,
            error=self._errors.get(str(trial), "") if trial.status == Trial.ERROR else "",
            took_over_from=[entry["from"] for entry in read_branches(run)],
        )

    def _status(self, trial: Trial) -> Any:
        if trial.status == Trial.TERMINATED:
            return self._end(trial)
        return {Trial.ERROR: "failed", Trial.RUNNING: "running"}.get(trial.status, "waiting")

    def _end(self, trial: Trial) -> Any:
        seen = (trial.last_result or {}).get(IMAGES_SEEN, 0)
        return "finished" if seen >= self._plan.space.max_images else "stopped early"

    def _note_error(self, trial: Trial) -> str:
        # Not trial.get_error(): it reads the storage, where the file may not have arrived yet.
        text = Path(trial.error_file).read_text("utf-8", "replace") if trial.error_file else ""
        self._errors[str(trial)] = one_line(text)
        return self._errors[str(trial)]

    def _free_disk(self, trials: list[Trial]) -> None:
        """Deletes checkpoints that no trial will continue from; every trial keeps its newest weights."""
        if self._plan.space.scheduler.kind == "pbt" and not all(trial.is_finished() for trial in trials):
            return  # Another trial may still continue from one that is over.
        ended = [record for trial in trials if (record := self._record(trial)).status in ("finished", "stopped early")]
        for record in ranked(ended)[self._keep_best :]:
            run, storage = self._plan.run_directory(record.name), self._plan.run_storage()
            if storage:
                storage.drop_checkpoints(record.name)
            shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
            if (run / SNAPSHOTS).is_dir():
                prune(run / SNAPSHOTS, keep=1)


def one_line(error: str) -> str:
    """The sentence of the newest failure in Ray's error file of a trial: that of the innermost error."""
    newest = re.split(r"(?m)^Failure # .*\n", error)[-1]
    lines = [line.strip() for line in newest.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Diverged|Exit|Interrupt): ", line)]
    if raised:
        return re.sub(r"^[\w.]+: ", "", raised[-1])
    return lines[0] if lines else "its process was lost"


def _values(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation, without what Ray adds."""
    return {name: float(result[name]) for name in (SCORE, *METRICS) if name in result}
