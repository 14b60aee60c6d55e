"""What a sweep is made of, without Ray's processes: journal, table, front, charts, schedulers, branching."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import jsonschema
import pytest
import ray
import ray.cloudpickle
import torch
import yaml
from ray.tune.schedulers import TrialScheduler
from safetensors.torch import load_file

from facegen.options import TrainConfig
from facegen.processes.preemption import StopFlag
from facegen.runs.branch import branch
from facegen.runs.checkpoint import newest_complete
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from tuning.journal import Journal
from tuning.ledger import TrialRecord, ranked, read_ledger, table, write_ledger
from tuning.progress import one_line
from tuning.reports.page import html
from tuning.reports.pareto import pareto_front
from tuning.reports.trial_scatter import HEIGHT, WIDTH, Axis, Mark, scatter
from tuning.schedulers import make_scheduler
from tuning.space import space_from_dict
from tuning.storage import RunStorage


def test_a_journal_is_in_order_and_comes_back_with_its_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    for images_seen in (64, 128, 192):
        journal.add({"images_seen": images_seen, "score": images_seen / 2})
    assert [entry["images_seen"] for entry in journal.after(64)] == [128, 192]
    journal.add({"images_seen": 128, "score": -1.0})  # A run that came back to 64 measures 128 again.
    assert Journal(tmp_path / "run").entries == [{"images_seen": 64, "score": 32.0}, {"images_seen": 128, "score": -1}]
    with open(tmp_path / "run" / "evaluations.jsonl", "a") as file:
        file.write('{"images_seen": 256, "sc')
    journal = Journal(tmp_path / "run")
    assert journal.has(128) and not journal.has(256)
    journal.cut(64)
    assert Journal(tmp_path / "run").entries == journal.entries == [{"images_seen": 64, "score": 32.0}]


def test_the_table_has_the_best_first_and_every_failure_with_its_reason(tmp_path: Path) -> None:
    records = [
        TrialRecord("000", {}, "finished", 100, {"score": 2.0, "mse": 2.0}),
        TrialRecord("001", {}, "failed", 50, {"score": 0.5, "mse": 0.5}, 3, "loss is not finite"),
        TrialRecord("002", {}, "stopped early", 50, {"score": 1.0, "mse": 1.0}),
        TrialRecord("003", {}, "waiting"),
    ]
    write_ledger(tmp_path, records)
    assert read_ledger(tmp_path) == records
    assert [record.name for record in ranked(records)] == ["002", "000", "003", "001"]
    lines = table(records).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["trial", "002", "000", "003", "001"]
    assert lines[-1] == "001 failed: loss is not finite"
    (tmp_path / "trials.json").write_text("[{")
    with pytest.raises(UserError, match="cannot be read"):
        read_ledger(tmp_path)
    with pytest.raises(UserError, match="holds no sweep"):
        read_ledger(tmp_path / "nowhere")


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0), (2.0, 3.0), (2.0, 6.0), (5.0, 1.0)]
    assert pareto_front(points) == [0, 1, 4, 3]
    assert pareto_front([]) == []


def test_a_chart_is_the_same_as_svg_and_as_picture() -> None:
    marks = [Mark(f"trial <{n}>", f"../reports/{n}/report.html") for n in range(3)]
    x, y = Axis("KL weight", [0.001, 0.1, 10]), Axis("MSE", [0.01, 0.02, 0.05])
    chart = scatter("MSE over KL weight", x, y, marks, front=[0, 1, 2])
    root = ElementTree.fromstring(chart.to_svg())
    name = "{http://www.w3.org/2000/svg}"
    assert [link.get("href") for link in root.iter(f"{name}a")] == [mark.link for mark in marks]
    places = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in root.iter(f"{name}circle")]
    gaps = [places[1][0] - places[0][0], places[2][0] - places[1][0]]
    assert gaps[0] == pytest.approx(gaps[1], abs=0.2)  # A factor of 100 each: the axis is logarithmic.
    assert places[0][1] > places[1][1] > places[2][1]
    picture = chart.to_picture()
    assert picture.size == (2 * WIDTH, 2 * HEIGHT)
    for place_x, place_y in places:
        assert picture.getpixel((round(2 * place_x), round(2 * place_y))) == (37, 99, 201)


def test_labels_of_a_chart_do_not_cover_each_other() -> None:
    marks = [Mark(f"label {n}") for n in range(12)]
    close = [1 + 0.01 * n for n in range(12)]
    chart = scatter("close", Axis("x", [*close[:-1], 2.0]), Axis("y", [*close[:-1], 2.0]), marks)
    labels = [(x, y) for x, y, text, _, _ in chart.texts if text.startswith("label")]
    assert len(set(labels)) == len(labels) < 12


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
    fresh = ray.cloudpickle.dumps(scheduler)  # What Ray keeps of a scheduler: as it was before the sweep began.
    begin(scheduler, "a", "b", "c", "d")
    decisions = [report(scheduler, name, 100, score) for name, score in (("a", 1.0), ("b", 0.5), ("c", 3.0))]
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert report(scheduler, "b", 900, 0.1) == TrialScheduler.CONTINUE  # At its end it ends by itself.
    resumed = ray.cloudpickle.loads(fresh)
    begin(resumed, "c", "d")
    assert report(resumed, "c", 100, 3.0) == TrialScheduler.STOP
    assert report(resumed, "d", 100, 0.9) == TrialScheduler.STOP  # Worse than b, of before the interruption.
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


def test_the_cluster_file_is_one_that_ray_takes() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((Path(__file__).parents[3] / "jobs" / "ray" / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "head_start_ray_command": []}, schema)


def test_a_run_in_a_storage_is_what_it_was_and_is_fetched_where_it_is_ahead(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(max_steps=6)
    config.checkpoint.every_images = 32
    run, storage = Path(config.run), RunStorage(f"local://{tmp_path / 'storage'}")
    Trainer(config).fit(on_saved=lambda trainer, values: storage.save("trial", run))

    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    storage.save("trial", run)
    copy = tmp_path / "storage" / "trial"
    assert files(run) == files(copy)  # Of three checkpoints two are kept, on both sides.
    assert len(list((copy / "checkpoints").iterdir())) == 2

    elsewhere = tmp_path / "elsewhere"
    RunStorage(f"local://{tmp_path / 'storage'}").restore("trial", elsewhere)
    assert files(elsewhere) == files(run)
    (copy / "metrics.jsonl").write_text("changed")
    storage.restore("trial", elsewhere)  # As far as the storage: left alone.
    assert files(elsewhere) == files(run)
    shutil.rmtree(max((elsewhere / "checkpoints").iterdir()))
    storage.restore("trial", elsewhere)
    assert (elsewhere / "metrics.jsonl").read_text() == "changed"
    storage.restore("unknown", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("half", ["without its marker", "with an older marker"])
def test_what_a_machine_was_sending_when_it_was_lost_does_not_count(
    half: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(max_steps=2)
    run, storage = Path(config.run), RunStorage(f"local://{tmp_path / 'storage'}")
    Trainer(config).fit()
    storage.save("trial", run)
    for group in ("checkpoints", "snapshots"):
        [sent] = (tmp_path / "storage" / "trial" / group).iterdir()
        if half == "without its marker":
            (sent / "COMPLETE").unlink()
        else:
            next(sent.glob("*.safetensors")).write_bytes(b"of another branch")
    shutil.rmtree(run)  # Another machine goes on.
    storage.restore("trial", run)
    assert not list((run / "checkpoints").iterdir()) and not list((run / "snapshots").iterdir())
    trainer = Trainer(config)
    assert (trainer.images_seen, trainer.fit()) == (0, 0)
    with pytest.raises(UserError, match="cannot use the storage nosuch://"):
        RunStorage("nosuch://bucket")


def test_training_off_the_main_thread_is_never_asked_to_stop() -> None:
    flags = []
    thread = threading.Thread(target=lambda: flags.append(StopFlag()))
    thread.start()
    thread.join()
    assert flags and not flags[0].requested
    flags[0].close()


def test_a_callback_sees_every_checkpoint_with_the_metrics_of_its_moment(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    config = tiny_config()
    config.monitor.validate_every_images = config.checkpoint.every_images = 32
    seen = []
    trainer = Trainer(config)
    trainer.fit(on_saved=lambda trainer, values: seen.append((trainer.images_seen, set(values))))
    assert seen == [(32, {"mse", "kl"}), (64, {"mse", "kl"})]
    metrics = [json.loads(line) for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in metrics if "val/mse" in line] == [32, 64]
    again = tiny_config(max_steps=6)
    Trainer(again).fit(on_saved=lambda trainer, values: seen.append((trainer.images_seen, set(values))))
    assert seen[2:] == [(96, {"mse", "kl"})]


def test_a_run_goes_on_from_another_ones_state_with_other_options(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    donor = tiny_config(run=str(tmp_path / "donor"), seed=1)
    Trainer(donor).fit()
    own = tiny_config(run=str(tmp_path / "own"), max_steps=8)
    Trainer(own).fit()
    source = newest_complete(tmp_path / "donor" / "checkpoints")
    assert source is not None
    changed = tiny_config(run=str(tmp_path / "own"), max_steps=8, model={"kld_weight": 0.5})
    changed.optim.lr = 5e-4
    with pytest.raises(UserError, match="started with other options"):
        Trainer(changed)
    branch(source, changed)
    trainer = Trainer(changed)
    assert trainer.images_seen == 64
    weights = load_file(source / "weights.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in trainer.family.state_dict().items())
    assert trainer.fit() == 0
    assert sorted(path.name for path in (tmp_path / "own" / "snapshots").iterdir())[-1] == "images_000000000128"
    saved = yaml.safe_load((tmp_path / "own" / "config.yaml").read_text())
    assert (saved["model"]["kld_weight"], saved["optim"]["lr"]) == (0.5, 5e-4)
    seen = [json.loads(line)["images_seen"] for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()]
    assert seen == sorted(seen)
    assert (source / "COMPLETE").is_file()  # The other run is as it was.


def test_the_page_of_a_sweep_has_all_its_colors() -> None:
    names = ("title", "created", "preset", "family")
    page = html({name: name for name in names} | {"facts": {}} | dict.fromkeys(("rows", "columns", "warnings"), []))
    on_screen = page.split("@media print")[0]
    used, defined = set(re.findall(r"var\((--[\w-]+)", page)), set(re.findall(r"(--[\w-]+):", on_screen))
    assert used - {"--width"} <= defined  # Each picture brings its own width.
