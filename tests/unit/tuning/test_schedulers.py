"""Schedulers without Ray's processes: what they decide, and what they remember."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import ray.cloudpickle
from ray.tune.schedulers import TrialScheduler

from tuning.driver.schedulers import make_scheduler
from tuning.driver.sweep_progress import one_line
from tuning.search.space import space_from_dict


def asha(tmp_path: Path):
    values = {
        "family": "vae",
        "search": {"model.kld_weight": {"uniform": [0, 1]}},
        "max_images": 900,
        "evaluate_every_images": 100,
        "scheduler": {"kind": "asha", "reduction_factor": 3},
    }
    return make_scheduler(space_from_dict(values, "f"), tmp_path / "scheduler")


def begin(scheduler, *names: str) -> None:
    assert scheduler.set_search_properties("score", "min")
    for name in names:
        scheduler.on_trial_add(None, SimpleNamespace(trial_id=name))


def report(scheduler, name: str, images_seen: int, score: float) -> str:
    trial = SimpleNamespace(trial_id=name)
    return scheduler.on_trial_result(None, trial, {"images_seen": images_seen, "score": score})


def test_asha_stops_the_worse_and_remembers_it_in_a_resumed_sweep(tmp_path: Path) -> None:
    scheduler = asha(tmp_path)
    fresh = ray.cloudpickle.dumps(scheduler)  # What Ray keeps of a scheduler: its state before the sweep.
    begin(scheduler, "a", "b", "c", "d")
    decisions = [report(scheduler, name, 100, score) for name, score in (("a", 1.0), ("b", 0.5), ("c", 3.0))]
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert report(scheduler, "b", 900, 0.1) == TrialScheduler.CONTINUE  # A trial at its end finishes on its own.
    resumed = ray.cloudpickle.loads(fresh)
    begin(resumed, "c", "d")
    assert report(resumed, "c", 100, 3.0) == TrialScheduler.STOP
    assert report(resumed, "d", 100, 0.9) == TrialScheduler.STOP  # Worse than b before the interruption.
    (tmp_path / "elsewhere").mkdir()
    forgetful = asha(tmp_path / "elsewhere")
    begin(forgetful, "d")
    assert report(forgetful, "d", 100, 0.9) == TrialScheduler.CONTINUE


def test_a_population_does_not_wait_for_a_trial_that_failed() -> None:
    values = {
        "family": "vae",
        "search": {"optim.lr": {"uniform": [0.1, 1]}},
        "max_images": 300,
        "scheduler": {"kind": "pbt", "perturb_every_images": 100},
        "num_samples": 2,
    }
    scheduler = make_scheduler(space_from_dict(values, "f"), Path("unused"))
    assert scheduler.set_search_properties("score", "min")
    kept = SimpleNamespace(checkpoint_manager=SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=10)))

    class FakeTrial(SimpleNamespace):
        __hash__ = object.__hash__

    def trial(name: str) -> FakeTrial:
        return FakeTrial(
            trial_id=name, status="RUNNING", config={"optim.lr": 0.5}, run_metadata=kept, experiment_tag=name
        )

    waiting, failing = trial("waiting"), trial("failing")
    controller = SimpleNamespace(
        search_alg=None, get_live_trials=lambda: [waiting, failing], get_trials=lambda: [waiting, failing]
    )
    for one in (waiting, failing):
        scheduler.on_trial_add(controller, one)
    result = {"images_seen": 100, "score": 1.0}
    assert scheduler.on_trial_result(controller, waiting, result) == TrialScheduler.PAUSE
    waiting.status = "PAUSED"
    assert scheduler.choose_trial_to_run(controller) is None
    scheduler.on_trial_error(controller, failing)
    failing.status = "ERROR"
    assert scheduler.choose_trial_to_run(controller) is waiting
    waiting.status = "RUNNING"
    assert scheduler.on_trial_result(controller, waiting, result | {"images_seen": 300}) == TrialScheduler.CONTINUE


def test_the_reason_of_a_traceback_is_its_last_error() -> None:
    traceback = (
        "Failure # 1 (occurred at 2026-11-22_11-30-36)\nValueError: another time, another error\n"
        "Failure # 2 (occurred at 2026-11-22_11-30-40)\n"
        "ray.exceptions.RayTaskError(TrainingDiverged): ray::train()\n  File x.py, line 1\n"
        "facegen.training.trainer.TrainingDiverged: training stopped before step 3: loss is not finite.\n"
    )
    assert one_line(traceback) == "training stopped before step 3: loss is not finite."
    assert one_line("Failure # 1 (now)\nThe actor died.\n\tclass_name: x\n") == "The actor died."
    assert one_line("") == "its process was lost"
