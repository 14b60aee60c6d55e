"""Damaged or hostile run directories, checkpoints, snapshots, samplers, metrics, reports and tables of trials."""

from __future__ import annotations

import gc
import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

from eval.base.run_warnings import run_warnings
from eval.drawing.charts import CURVES
from eval.reports.results import read_report, to_json
from eval.studio.running import Training
from facegen.config import parse_args
from facegen.model import load
from facegen.processes.failures import TrainingFailed
from facegen.runs.checkpoint import MARKER
from facegen.runs.metrics_file import read_metrics
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.damage import draw_bytes, draw_json, draw_place, make
from tuning.ledger import read_ledger, table

OLD = Path(__file__).parents[2] / "fixtures" / "release_0_1"
_READS = {
    "load": ("run/snapshots",),
    "sampler": ("run/snapshots", "run/samplers"),
    "curves": ("run/metrics.jsonl", "run/config.yaml", "run/latent_usage.safetensors"),
    "report": ("report.json",),
    "ledger": ("sweep/trials.json",),
    "resume": ("run/checkpoints", "run/metrics.jsonl", "run/latent_usage.safetensors", "run/config.yaml"),
}


class Runs(Area):
    """The run, the report and the sweep of an earlier release; checksums are made to fit in half of the cases."""

    title = "run directories, checkpoints, snapshots, metrics"
    uses = ("load", "load", "sampler", "curves", "curves", "report", "ledger", "resume")

    def __init__(self, home: Path, bait: Path) -> None:
        """Looks up what each use reads."""
        super().__init__(home, bait)
        files = [path.relative_to(OLD) for path in OLD.rglob("*") if path.is_file()]
        self._files = {
            use: [str(file) for file in files if str(file).startswith(places)] for use, places in _READS.items()
        }

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One to three changes of what is read, and perhaps checksums that fit."""
        changes = [_draw_one(rng, rng.choice(self._files[use])) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        return [*changes, *[Change("seal", "all")] * (rng.random() < 0.6)]

    def use(self, folder: Path, case: Case) -> dict[str, Any]:
        """Loads, draws or resumes."""
        for name in ("run", "sweep"):
            shutil.copytree(OLD / name, folder / name)
        shutil.copy(OLD / "report.json", folder)
        for change in case.changes:
            if change.kind == "seal":
                _seal(folder)
            elif change.kind == "line":
                _change_line(folder / change.where, *change.value)
            else:
                make(change, folder)
        return _USERS[case.use](folder)

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """The same numbers, or a warning.

        With checksums that fit, and in files that have none, another value is another run, and nobody can tell.
        """
        is_checked = case.use in ("load", "sampler", "resume") and Change("seal", "all") not in case.changes
        return found == good or not is_checked or "warning: " in said


def _draw_one(rng: random.Random, file: str) -> Change:
    path = OLD / file
    how = rng.random()
    if how < 0.1:
        return draw_place(rng, file)
    if how < 0.75 and path.suffix == ".json":
        return draw_json(rng, file, json.loads(path.read_text()))
    if how < 0.75 and path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        number = rng.randrange(len(lines))
        change = draw_json(rng, "", json.loads(lines[number]))
        return Change("line", file, [number, change.kind, change.value])
    return draw_bytes(rng, file, path.stat().st_size)


def _change_line(path: Path, number: int, kind: str, value: Any) -> None:
    """Makes a JSON change of one line of a file."""
    if not path.is_file() or path.is_symlink():
        return
    lines = path.read_bytes().splitlines()
    if number >= len(lines):
        return
    alone = path.with_name("line.json")
    alone.write_bytes(lines[number])
    make(Change(kind, alone.name, value), alone.parent)
    lines[number] = alone.read_bytes()
    alone.unlink()
    path.write_bytes(b"\n".join(lines) + b"\n")


def _seal(folder: Path) -> None:
    """Makes the checksums of changed directories fit, as somebody who wants them to be read would."""
    for marker in folder.rglob(MARKER):
        if not marker.is_file() or marker.is_symlink():
            continue
        plain = [
            path for path in marker.parent.iterdir() if path.is_file() and not path.is_symlink() and path != marker
        ]
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in plain}
        marker.write_text(json.dumps(sums))


def _load(folder: Path, sampler: str | None = None) -> dict[str, Any]:
    model = load(folder / "run", sampler=sampler)
    images = model.sample(2).numpy()
    return {"images_seen": model.images_seen, "samples": hashlib.sha256(images.tobytes()).hexdigest()}


def _curves(folder: Path) -> dict[str, Any]:
    training = Training("run", folder / "run")
    progress = training.progress()
    for key in CURVES:
        try:
            training.curve(key)
        except UserError:
            continue  # There is no such curve.
    for kind, pictures in progress.pictures.items():
        for number in pictures:
            training.picture(kind, number)
    return {"progress": progress, "warnings": run_warnings(read_metrics(folder / "run"), 10**9)}


def _resume(folder: Path) -> dict[str, Any]:
    options = ["--data", str(OLD / "dataset"), "--run", str(folder / "run"), "--max_images", "144"]
    options += ["--monitor.num_validation_images", "4", "--loader.num_threads", "0"]
    trainer = Trainer(parse_args(["vae", "--config", str(OLD / "run" / "config.yaml"), *options]))
    try:
        resumed = trainer.images_seen
        trainer.fit()
        digest = hashlib.sha256()
        for tensor in trainer.family.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        return {"resumed": resumed, "weights": digest.hexdigest()}
    except TrainingFailed as error:  # The command prints it in the same way.
        raise UserError(str(error)) from None
    finally:
        del trainer
        gc.collect()  # Frees the lock, as the end of a process would.


_USERS = {
    "load": _load,
    "sampler": lambda folder: _load(folder, "gaussian"),
    "curves": _curves,
    "report": lambda folder: {"report": json.dumps(to_json(read_report(folder / "report.json")))},
    "ledger": lambda folder: {"table": table(read_ledger(folder / "sweep"))},
    "resume": _resume,
}
