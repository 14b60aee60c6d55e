"""Follows a sweep: keeps its table, tells what happens, and gives back the disk of trials that lost."""

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
from tuning.journal import IMAGES_SEEN, read_lines
from tuning.ledger import TrialRecord, ranked, write_ledger
from tuning.objective import METRICS, SCORE
from tuning.trial_plan import Plan, plain
from tuning.trial_training import BRANCHES

_LINE = "  {name}: {images:,} images | {values}{best}"


class Progress(tune.Callback):
    """Called by Ray Tune in the process that drives the sweep."""

    def __init__(self, plan: Plan, keep_best: int) -> None:
        """Follows the sweep of ``plan``; of the trials that end, the best ``keep_best`` keep their checkpoints."""
        self._plan = plan
        self._keep_best = keep_best
        self._errors: dict[str, str] = {}
        self._best: float | None = None
        self._num_ended = 0

    def get_state(self) -> dict[str, Any]:
        """What a resumed sweep needs."""
        return {"errors": self._errors, "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores it."""
        self._errors, self._best = state["errors"], state["best"]

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells of it."""
        print(f"  {trial} {'goes on' if self._plan.run_directory(str(trial)).is_dir() else 'starts'}", flush=True)
        self._keep(trials)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Tells of an evaluation."""
        values = _values(result)
        is_best = self._best is None or values[SCORE] < self._best
        if is_best:
            self._best = values[SCORE]
        text = " | ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(
            _LINE.format(name=trial, images=result[IMAGES_SEEN], values=text, best=" | best" if is_best else ""),
            flush=True,
        )
        self._keep(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells how it ended."""
        print(f"  {trial} {self._end(trial)}", flush=True)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells why it is tried again."""
        print(f"  {trial} broke off and is tried again: {self._note_error(trial)}", flush=True)
        self._keep(trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells why it was given up."""
        print(f"  {trial} failed: {self._note_error(trial)}", flush=True)
        self._keep(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Keeps the table in step with how many trials have ended, of which the hooks above come too early to know."""
        num_ended = sum(trial.is_finished() for trial in trials)
        if num_ended != self._num_ended:
            self._num_ended = num_ended
            self._keep(trials)
            self._give_back(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Leaves the table complete."""
        self._keep(trials)
        self._give_back(trials)

    def _keep(self, trials: list[Trial]) -> None:
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
            took_over_from=[entry["from"] for entry in read_lines(run / BRANCHES)],
        )

    def _status(self, trial: Trial) -> Any:
        if trial.status == Trial.TERMINATED:
            return self._end(trial)
        return {Trial.ERROR: "failed", Trial.RUNNING: "running"}.get(trial.status, "waiting")

    def _end(self, trial: Trial) -> Any:
        seen = (trial.last_result or {}).get(IMAGES_SEEN, 0)
        return "finished" if seen >= self._plan.space.max_images else "stopped early"

    def _note_error(self, trial: Trial) -> str:
        # The file here, not trial.get_error(): that reads the storage, to which the file may be still on its way.
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        self._errors[str(trial)] = one_line(text)
        return self._errors[str(trial)]

    def _give_back(self, trials: list[Trial]) -> None:
        """Deletes the training states that nobody will go on from; every trial keeps its newest weights."""
        if self._plan.space.scheduler.kind == "pbt" and not all(trial.is_finished() for trial in trials):
            return  # Another trial may still go on from one that has ended.
        ended = [record for trial in trials if (record := self._record(trial)).status in ("finished", "stopped early")]
        for record in ranked(ended)[self._keep_best :]:
            run, storage = self._plan.run_directory(record.name), self._plan.run_storage()
            if storage:
                storage.drop_checkpoints(record.name)
            shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
            if (run / SNAPSHOTS).is_dir():
                prune(run / SNAPSHOTS, keep=1)


def one_line(error: str) -> str:
    """The sentence of the newest failure in Ray's file of a trial's errors: that of the innermost error raised."""
    newest = re.split(r"(?m)^Failure # .*\n", error)[-1]
    lines = [line.strip() for line in newest.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Diverged|Exit|Interrupt): ", line)]
    if raised:
        return re.sub(r"^[\w.]+: ", "", raised[-1])
    return lines[0] if lines else "its process was lost"


def _values(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation, without what Ray adds."""
    return {name: float(result[name]) for name in (SCORE, *METRICS) if name in result}
