"""Makes reports on two ranks whose disks differ, in one process group: report_on_disks.py FOLDER

Rank r works in FOLDER/disk{r}, with its own data, run and cache. Before each report rank 0 changes one of the disks.
What each report ends with is written to FOLDER/answers.{r}.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from torch import distributed

import eval
from eval.features.optional_spaces import OPTIONAL_SPACES, OptionalSpace
from eval.metrics.lpips import ALEXNET_URL
from facegen.processes.group import make_accelerator, run_process
from quick_spaces import use_quick_spaces
from shards.base.errors import UserError

DONE = "done"
PARTS = ["reconstruction", "lpips", "latent", "distances"]


def nothing(own: Path, other: Path) -> None:
    """Changes no disk."""


def move_cache(own: Path, other: Path) -> None:
    """What rank 0 has cached is now on the disk of rank 1 alone."""
    assert not (other / "cache" / "features").exists(), "only the main rank caches"
    shutil.rmtree(other / "cache", ignore_errors=True)
    (own / "cache").rename(other / "cache")


def add_snapshot(own: Path, other: Path) -> None:
    """Rank 1 sees a newer snapshot, with other weights."""
    shutil.copytree(own.parent / "newer", other / "run", dirs_exist_ok=True)


def add_weights(own: Path, other: Path) -> None:
    """Rank 0 alone has a file in the place of AlexNet's weights."""
    path = own / "hub" / "checkpoints" / ALEXNET_URL.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")


def fill_out(own: Path, other: Path) -> None:
    """The report's directory of rank 0 holds other files."""
    (own / "fill_out").mkdir()
    (own / "fill_out" / "notes.txt").write_text("mine")


def damage(own: Path, other: Path) -> None:
    """An image of the evaluated split is damaged on the disk of rank 1."""
    for shard in (other / "data").glob("test-*.tar"):
        content = bytearray(shard.read_bytes())
        content[512:-1024] = bytes(len(content) - 1536)
        shard.write_bytes(content)


def change_data(own: Path, other: Path) -> None:
    """Rank 1 has another data set."""
    shutil.rmtree(other / "data")
    shutil.copytree(own.parent / "other_data", other / "data")


def remove_data(own: Path, other: Path) -> None:
    """Rank 1 has none."""
    shutil.rmtree(other / "data")


def change_weights(own: Path, other: Path) -> None:
    """The same snapshot has other weights on the disk of rank 1, whose data are whole again."""
    shutil.copytree(own / "data", other / "data", dirs_exist_ok=True)
    shutil.rmtree(other / "run")
    shutil.copytree(own.parent / "same_name", other / "run")


def remove_run(own: Path, other: Path) -> None:
    """Rank 1 lacks the run."""
    shutil.rmtree(other / "run")


@dataclass(frozen=True)
class Case:
    """A change of the disks, and the report after it."""

    change: Callable[[Path, Path], None] = nothing
    spaces: list[str] = field(default_factory=lambda: ["efflite0"])
    lacks_face: bool = False
    """Whether rank 1 lacks the weights of the face recognizer."""


CASES = {
    "first": Case(),
    "cached_on_main": Case(),
    "cached_on_other": Case(move_cache),
    "newer_snapshot": Case(add_snapshot),
    "alexnet_on_main": Case(add_weights),
    "face_on_main": Case(spaces=["efflite0", "face"], lacks_face=True),
    "fill_out": Case(fill_out),
    "damaged": Case(damage),
    "changed_weights": Case(change_weights),
    "no_run": Case(remove_run),
    "changed_data": Case(change_data),
    "no_data": Case(remove_data),
}


def main() -> int:
    """Makes all reports."""
    folder, accelerator = Path(sys.argv[1]), make_accelerator(force_cpu=True)
    rank, patch = accelerator.process_index, pytest.MonkeyPatch()
    disks = [folder / "disk0", folder / "disk1"]
    os.chdir(disks[rank])
    os.environ["FACEGEN_CACHE"] = str(disks[rank] / "cache")
    use_quick_spaces(patch)
    patch.setattr(Accelerator, "end_training", lambda _: None)  # It would end the group of the reports that follow.
    patch.setattr("torch.hub.get_dir", lambda: str(disks[rank] / "hub"))
    answers = {}
    for name, case in CASES.items():
        if rank == 0:
            case.change(*disks)
        distributed.barrier()
        if case.lacks_face and rank == 1:
            absent = OptionalSpace(lambda _: (None, "not computed: no weights."), OPTIONAL_SPACES["face"].load)
            patch.setitem(OPTIONAL_SPACES, "face", absent)
        options: dict[str, Any] = {"device": "cpu", "only": PARTS, "spaces": case.spaces, "batch_size": 5}
        try:
            eval.report("run", "data", name, **options)
            answers[name] = DONE
        except UserError as error:
            answers[name] = str(error)
    Path(f"{folder}/answers.{rank}.json").write_text(json.dumps(answers))
    return 0


if __name__ == "__main__":
    run_process(main)
