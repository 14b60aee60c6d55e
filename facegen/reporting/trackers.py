"""Experiment trackers of other packages, through accelerate's interface to them: curves, pictures and configuration.

A tracker's run is one across kills and resumes: ``trackers.json`` in the run directory keeps its name. A resumed run
repeats the steps since its checkpoint; what a killed process has logged of them is not logged again.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image
from torch import Tensor

from facegen.option_values import to_dict
from facegen.options import TENSORBOARD, TRACKER_PLUGINS, TrainConfig
from facegen.runs.metrics_file import read_metrics
from shards.base.errors import UserError
from shards.base.files import write_json
from shards.base.formats import Format
from shards.base.plugins import Registry
from shards.base.records import read_record

TRACKERS_FILE = "trackers.json"
_FORMAT = Format("record of trackers", version=1)
_COUNTER = "images_seen"


@dataclass
class TrackerState:
    """What a tracker has of a run."""

    name: str
    """What the tracker calls the run: an id, a hash or a name."""
    logged: dict[str, int] = field(default_factory=dict)
    """Images seen at the newest value of each name, when training last started."""


@dataclass
class TrackersRecord:
    """``trackers.json``."""

    trackers: dict[str, TrackerState] = field(default_factory=dict)
    """By the tracker's name."""


class TrackerKind(NamedTuple):
    """What differs between trackers."""

    start: Callable[[str, Path, str, str | None], dict[str, Any]]
    """Arguments of accelerate's tracker: of the run's name there ("" in a new run), run directory, project, group."""
    name_of: Callable[[Any], str]
    """What a started one calls the run."""
    draw: Callable[[Any, str, Tensor, Path, int], None]
    """Logs a picture: of accelerate's tracker, its name, its pixels, its file, and the images seen."""
    tracker_class: type[GeneralTracker] | None = None
    """The tracker, with accelerate's interface; None for accelerate's own of this name."""


def _start_wandb(name: str, run: Path, project: str, group: str | None) -> dict[str, Any]:
    # Offline, it writes to its file every 15 s by default, and a kill would lose what has not been written.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    place = {"dir": str(run), "name": run.name, "group": group}
    return {"run_name": project, "id": name or uuid.uuid4().hex, "resume": "allow", **place}


def _start_mlflow(name: str, run: Path, project: str, group: str | None) -> dict[str, Any]:
    tags = {"group": group} if group else None
    return {"experiment_name": project, "run_id": name or None, "run_name": run.name, "tags": tags}


def _start_aim(name: str, run: Path, project: str, group: str | None) -> dict[str, Any]:
    quiet = {"system_tracking_interval": None, "log_system_params": False, "capture_terminal_logs": False}
    place = {"run_name": run.name, "logging_dir": os.environ.get("AIM_REPO", "."), "experiment": group or project}
    return {"run_hash": name or None, **place, **quiet}


def _start_trackio(name: str, run: Path, project: str, group: str | None) -> dict[str, Any]:
    # It knows a run by its name alone. Accelerate's way of storing the configuration comes too late for it.
    called = name or f"{run.name}-{uuid.uuid4().hex[:8]}"
    return {
        "run_name": project,
        "name": called,
        "resume": "allow",
        "group": group,
        "embed": False,
        "auto_log_gpu": False,
        "auto_log_cpu": False,
    }


def _draw_wandb(tracker: Any, name: str, image: Tensor, file: Path, images_seen: int) -> None:
    tracker.log({name: [import_module("wandb").Image(_pixels(image))], _COUNTER: images_seen})


def _draw_trackio(tracker: Any, name: str, image: Tensor, file: Path, images_seen: int) -> None:
    tracker.log({name: import_module("trackio").Image(str(file))}, step=images_seen)


_OWN = {
    "wandb": TrackerKind(
        _start_wandb,
        lambda tracker: tracker.tracker.id,
        _draw_wandb,
    ),
    "mlflow": TrackerKind(
        _start_mlflow,
        lambda tracker: tracker.tracker.info.run_id,
        lambda tracker, name, image, file, seen: tracker.log_artifact(str(file), "pictures"),
    ),
    "aim": TrackerKind(
        _start_aim,
        lambda tracker: tracker.tracker.hash,
        lambda tracker, name, image, file, seen: tracker.log_images({name: Image.fromarray(_pixels(image))}, step=seen),
    ),
    "trackio": TrackerKind(_start_trackio, lambda tracker: tracker.tracker.name, _draw_trackio),
}
_KINDS = Registry(TRACKER_PLUGINS, TrackerKind, _OWN)


def require_trackers(names: Sequence[str]) -> None:
    """Checks that the packages of trackers are installed, without importing them, and that plug-ins can be loaded.

    Raises:
        UserError: One is not, or cannot be.
    """
    for name in names:
        if name == TENSORBOARD:
            continue
        if name not in _KINDS:
            raise UserError(f"monitor.trackers names {name}, a plug-in that cannot be loaded; update or remove it.")
        if name in _OWN and find_spec(name) is None:
            raise UserError(f"monitor.trackers names {name}, which is not installed; install it: pip install {name}")


class Tracker:
    """A run in a tracker. Where logging fails, training continues without it."""

    def __init__(self, kind: str, name: str, tracker: Any, logged: Mapping[str, int]) -> None:
        """Takes accelerate's tracker, started.

        Args:
            kind: Its name in accelerate.
            name: What the tracker calls the run.
            tracker: The tracker.
            logged: Images seen at the newest value that it has, by the value's name.
        """
        self.name, self._kind, self._logged = name, kind, logged
        self._tracker: Any = tracker

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Writes those numbers that it does not have yet."""
        new = {name: value for name, value in values.items() if images_seen > self._logged.get(name, -1)}
        if new and self._kind == "wandb":
            # It numbers calls itself and takes none for an earlier step; `images_seen` is the axis of all curves.
            self._try(lambda: self._tracker.log({**new, _COUNTER: images_seen}))
        elif new:
            self._try(lambda: self._tracker.log(new, step=images_seen))

    def picture(self, name: str, image: Tensor, file: Path, images_seen: int) -> None:
        """Writes a picture, uint8 height x width x C, that is also in a file."""
        self._try(lambda: _KINDS[self._kind].draw(self._tracker, name, image, file, images_seen))

    def close(self) -> None:
        """Finishes the tracker's run; a resumed training opens it again."""
        self._try(lambda: self._tracker.finish())

    def _try(self, action: Callable[[], None]) -> None:
        if self._tracker is None:
            return
        try:
            action()
        except Exception as error:  # Each tracker has errors of its own, most of them of a network.
            self._tracker = None
            print(f"warning: {self._kind} has failed, training continues without it: {error}", file=sys.stderr)


def open_trackers(run: Path, config: TrainConfig) -> list[Tracker]:
    """Opens the run in each tracker that the options name; call it before ``metrics.jsonl`` is cut.

    Raises:
        UserError: A tracker that does not start, or a damaged ``trackers.json``.
    """
    names = [name for name in config.monitor.trackers if name != TENSORBOARD]
    if not names:
        return []
    record = _read(run)
    newest: dict[str, int] = {}
    for point in read_metrics(run):
        newest |= {name: max(newest.get(name, -1), point[_COUNTER]) for name in point if name != _COUNTER}
    for state in record.trackers.values():
        state.logged |= {name: max(seen, state.logged.get(name, -1)) for name, seen in newest.items()}
    trackers = []
    for kind in names:
        state = record.trackers.get(kind)
        trackers.append(_open(kind, state or TrackerState(""), run, config))
        record.trackers[kind] = state or TrackerState(trackers[-1].name)
        write_json(run / TRACKERS_FILE, _FORMAT.stamp(asdict(record)), durable=False)
    return trackers


def _open(kind: str, state: TrackerState, run: Path, config: TrainConfig) -> Tracker:
    project, group = config.monitor.tracker_project, config.monitor.tracker_group
    try:
        options = dict(_flat(to_dict(config)))
        arguments = _KINDS[kind].start(state.name, run, project, group)
        tracker_class: Any = _KINDS[kind].tracker_class or LOGGER_TYPE_TO_CLASS[kind]
        tracker = tracker_class(**arguments, **({"config": options} if kind == "trackio" else {}))
        tracker.start()
        if kind == "wandb":
            tracker.tracker.define_metric("*", step_metric=_COUNTER)
        if not state.name and kind != "trackio":
            tracker.store_init_configuration(options)
        return Tracker(kind, state.name or _KINDS[kind].name_of(tracker), tracker, state.logged)
    except Exception as error:  # As above.
        reason = " ".join(str(error).split())
        raise UserError(f"{kind} does not start ({reason}); fix this, or leave it out of monitor.trackers.") from error


def _read(run: Path) -> TrackersRecord:
    path = run / TRACKERS_FILE
    advice = "delete it, and training begins new runs in the trackers"
    return read_record(path, TrackersRecord, advice, _FORMAT) if path.exists() else TrackersRecord()


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options by their dotted names, as values that every tracker takes."""
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                value if value is None or isinstance(value, str | int | float) else json.dumps(value),
            )


def _pixels(image: Tensor) -> Any:
    """The picture as trackers take it: height x width, or height x width x 3."""
    return image.squeeze(-1).numpy()
