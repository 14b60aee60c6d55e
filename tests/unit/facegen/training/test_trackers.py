"""Trackers hold what ``metrics.jsonl`` holds, in one run each, after kills and resumes; read by their own packages."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from facegen.config import make_config
from facegen.options import MonitorConfig
from facegen.reporting import trackers
from facegen.reporting.monitor import Monitor
from facegen.reporting.trackers import require_trackers
from facegen.runs.metrics_file import read_metrics
from shards.base.errors import UserError

SCRIPT = Path(__file__).resolve().parents[3] / "helpers" / "tracked_run.py"
Found = dict[str, list[tuple[int, float]]]
"""Images seen and value, by name."""


def write(folder: Path, start: int, tracker: str, counts: list[int], kill: bool = False) -> None:
    places = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "AIM_REPO": str(folder / "aim"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "GIT_PYTHON_REFRESH": "quiet",
    }
    words = [str(folder / "run"), str(start), json.dumps([tracker]), json.dumps(counts), *(["kill"] if kill else [])]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=folder, env={**os.environ, **places}, capture_output=True, text=True
    )
    assert done.returncode == (-9 if kill else 0), done.stderr
    assert "has failed" not in done.stderr, done.stderr


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a ``.wandb`` file: a header of 7 bytes, then a log in LevelDB's format."""
    block, header = 2**15, struct.Struct("<IHB")
    position, parts = 7, b""
    while position + header.size <= len(data):
        if block - position % block < header.size:
            position += block - position % block
            continue
        _, length, kind = header.unpack_from(data, position)
        position += header.size + length
        parts += data[position - length : position]
        if kind in (1, 4):  # A whole record, or its last part.
            yield parts
            parts = b""


def read_wandb(folder: Path) -> tuple[Found, dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2

    found: Found = defaultdict(list)
    ids, config, groups = set(), {}, set()
    runs = sorted((folder / "run" / "wandb").glob("offline-run-*"))
    for file in (path for run in runs for path in run.glob("*.wandb")):
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
                groups.add(record.run.run_group)
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name in row.keys() & {"train/loss", "val/mse"}:
                found[name].append((row["images_seen"], row[name]))
    assert len(runs) == 3 and len(ids) == 1 and groups == {"sweep 1"}
    assert len([path for run in runs for path in run.glob("files/media/images/samples*.png")]) == 3
    return found, config


def read_mlflow(folder: Path) -> tuple[Found, dict[str, Any]]:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    [experiment] = client.search_experiments(filter_string="name = 'facegen'")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.tags["group"] == "sweep 1"
    assert len(client.list_artifacts(run.info.run_id, "pictures")) == 3
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(item.step, item.value) for item in points] for name, points in histories.items()}, run.data.params


def read_trackio(folder: Path) -> tuple[Found, dict[str, Any]]:
    code = """
import json
from trackio.sqlite_storage import SQLiteStorage
[run] = SQLiteStorage.get_runs("facegen")
print(json.dumps([SQLiteStorage.get_logs("facegen", run), SQLiteStorage.get_run_config("facegen", run)], default=str))
"""
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, config = json.loads(done.stdout.splitlines()[-1])
    found: Found = defaultdict(list)
    for row in rows:
        for name in row.keys() & {"train/loss", "val/mse"}:
            found[name].append((row["step"], row[name]))
    assert config["_Group"] == "sweep 1" and sum("samples" in row for row in rows) == 3
    return found, config


READERS: dict[str, Callable[[Path], tuple[Found, dict[str, Any]]]] = {
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


@pytest.mark.parametrize("tracker", READERS)
def test_a_tracker_holds_the_scalars_of_a_run_that_was_killed_and_resumed(tracker: str, tmp_path: Path) -> None:
    pytest.importorskip(tracker)
    write(tmp_path, 0, tracker, [2, 4, 6, 8], kill=True)
    write(tmp_path, 4, tracker, [6, 8, 10], kill=True)  # From the checkpoint at 4.
    write(tmp_path, 4, tracker, [6, 8, 10, 12])
    expected: Found = defaultdict(list)
    for point in read_metrics(tmp_path / "run"):
        for name, value in point.items():
            if name != "images_seen" and value is not None:
                expected[name].append((point["images_seen"], value))
    found, config = READERS[tracker](tmp_path)
    assert {name: sorted(points) for name, points in found.items()} == expected
    assert str(config["seed"]) == "7" and config["family"] == "vae" and str(config["optim.lr"]) == "0.001"


class StandIn:
    """What accelerate's tracker of aim does, with a list in place of its database."""

    runs: list[StandIn] = []

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.tracker = arguments, types.SimpleNamespace(hash="0123abc")
        self.calls: list[tuple[str, Any, Any]] = []
        self.fails = False

    def start(self) -> None:
        self.runs.append(self)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(("configuration", values["family"], None))

    def log(self, values: dict[str, float], step: int) -> None:
        if self.fails:
            raise ConnectionError("no network")
        self.calls.append(("log", values, step))

    def log_images(self, values: dict[str, Any], step: int) -> None:
        self.calls.append(("images", {name: image.size for name, image in values.items()}, step))

    def finish(self) -> None:
        self.calls.append(("finish", None, None))


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    monkeypatch.setattr(StandIn, "runs", [])
    monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, "aim", StandIn)
    return StandIn.runs


def config_of(run: Path, **monitor: Any) -> Any:
    return make_config("vae", data="d", run=run, **{f"monitor.{name}": value for name, value in monitor.items()})


def test_a_resumed_run_is_the_same_run_and_repeats_nothing(tmp_path: Path, stand_ins: list[StandIn]) -> None:
    config = config_of(tmp_path, trackers=["aim", "tensorboard"], tracker_group="sweep")
    picture = torch.zeros(8, 6, 1, dtype=torch.uint8)
    killed = Monitor(tmp_path, 0, config)
    for count in (2, 4):
        killed.scalars({"train/loss": 0.5}, count)
    killed.picture("samples", picture, 4)
    resumed = Monitor(tmp_path, 2, config)
    resumed.scalars({"train/loss": 0.5, "train/bad": float("inf")}, 4)
    resumed.scalars({"val/mse": 0.1}, 4)  # The killed process did not come to it.
    resumed.picture("samples", picture, 4)
    resumed.close()
    first, second = stand_ins
    log = ("log", {"train/loss": 0.5})
    assert first.calls == [("configuration", "vae", None), (*log, 2), (*log, 4), ("images", {"samples": (6, 8)}, 4)]
    assert second.calls == [("log", {"val/mse": 0.1}, 4), ("finish", None, None)]
    assert first.arguments["run_hash"] is None and second.arguments["run_hash"] == "0123abc"
    assert first.arguments["experiment"] == "sweep" and first.arguments["run_name"] == tmp_path.name


def test_what_a_tracker_has_is_known_after_two_kills(tmp_path: Path, stand_ins: list[StandIn]) -> None:
    config = config_of(tmp_path, trackers=["aim"])
    for start, counts in ((0, (2, 4, 6, 8)), (2, (4,)), (2, (4, 6, 8, 10))):
        monitor = Monitor(tmp_path, start, config)
        for count in counts:
            monitor.scalars({"train/loss": 0.5}, count)
    steps = [step for run in stand_ins for name, _, step in run.calls if name == "log"]
    assert steps == [2, 4, 6, 8, 10]


def test_a_tracker_that_fails_leaves_training_alone(
    tmp_path: Path, stand_ins: list[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = Monitor(tmp_path, 0, config_of(tmp_path, trackers=["aim"]))
    stand_ins[0].fails = True
    for count in (2, 4):
        monitor.scalars({"train/loss": 0.5}, count)
    monitor.close()
    assert capsys.readouterr().err == "warning: aim has failed, training continues without it: no network\n"
    assert len(read_metrics(tmp_path)) == 2 and not list(tmp_path.glob("events*"))


def test_a_tracker_that_does_not_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**arguments: Any) -> None:
        raise RuntimeError("no such\nserver")

    monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, "mlflow", refuse)
    with pytest.raises(UserError, match=r"mlflow does not start \(no such server\); fix this, or leave it out"):
        Monitor(tmp_path, 0, config_of(tmp_path, trackers=["mlflow"]))
    (tmp_path / "trackers.json").write_text("[]")
    with pytest.raises(UserError, match="trackers.json does not hold a record of trackers; delete it"):
        Monitor(tmp_path, 0, config_of(tmp_path, trackers=["mlflow"]))


def test_a_tracker_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    require_trackers(["tensorboard"])
    with pytest.raises(UserError, match="names trackio, which is not installed; install it: pip install trackio"):
        require_trackers(["tensorboard", "trackio"])


def test_no_tracker_is_imported_that_is_not_asked_for() -> None:
    code = "import sys, facegen.training.trainer; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"wandb", "mlflow", "aim", "trackio", "tensorboard"} & set(modules)


@pytest.mark.parametrize(
    "values",
    [{"trackers": ["aim", "aim"]}, {"tracker_project": ""}, {"tracker_project": "it's"}, {"tracker_group": "a/b"}],
)
def test_impossible_options_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="monitor.tracker"):
        MonitorConfig(**values)
