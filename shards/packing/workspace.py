"""The output folder of a packing: what is finished, what can be resumed, and what must not be touched.

While a packing runs, the folder holds the finished shards and a hidden folder ``.packing`` with the plan, one result
file for each finished shard, and temporary files. ``dataset.json`` comes last; then ``.packing`` is removed.
"""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.base.errors import DamagedFile, UserError
from shards.base.files import only_one, publish, write_json, writing_to
from shards.base.formats import Format
from shards.base.records import read_json
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, PACKING_DIR
from shards.packing.plan import ShardTask
from shards.packing.shard import ListedTask, ShardJob, ShardResult, write_shard

_PLAN_FILE, _LOCK = "plan.json", "lock"
_ADVICE = "delete the folder of the unfinished packing and start over"
_PLAN = Format("packing plan", version=1, first=1)
"""Versions of all that ``.packing`` holds: the plan names its own, which is also that of the results beside it."""


@dataclass(frozen=True)
class ShardWork:
    """Writes shards into the output folder. Picklable: any process that sees the folder can do it.

    The temporary name is the attempt's own: a machine that was given up may still be writing.
    """

    job: ShardJob
    root: Path

    def __call__(self, listed: ListedTask, on_image: Callable[[], object]) -> ShardResult:
        """Writes one shard and its result file; when this returns, both are durable under their final names.

        Raises:
            OSError: The disk is full or not writable.
            UserError: This machine does not see the folder, or an image cannot be read for now.
        """
        folder, name = self.root / PACKING_DIR, listed.task.name
        if not (folder / _PLAN_FILE).exists():
            raise UserError(
                f"{platform.node()} does not see {self.root}: all machines that write shards need the same folder."
            )
        temporary = folder / f"{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            result = write_shard(self.job, listed, temporary, on_image)
            if result.num_bytes:
                publish(temporary, self.root / name)
        finally:
            temporary.unlink(missing_ok=True)
        # A shard counts once its result file exists, so the shard itself must be durable first.
        write_json(folder / f"{name}.json", asdict(result))
        return result


class Workspace:
    """The output folder of one packing, locked against a second one until the block ends."""

    def __init__(self, root: Path) -> None:
        """Creates and locks the folder.

        Raises:
            UserError: Another packing is running there, or it holds other files or cannot be written to.
        """
        self.root = root
        self.work = root / PACKING_DIR
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give a folder for the data set.")
        if root.is_dir() and not self.work.is_dir() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and holds no unfinished packing; give a new or empty folder.")
        with writing_to(f"to {root}", "give another output folder"):
            self.work.mkdir(parents=True, exist_ok=True)
        busy = f"another packing is writing to {root}; wait for it or stop it."
        with ExitStack() as held:
            held.enter_context(only_one(self.work / _LOCK, busy))
            if (root / DATASET_FILE).exists():
                raise UserError(
                    f"another packing has just finished {root}; rerun the command to check that it is the same."
                )
            self._held = held.pop_all()

    def begin(self, spec: dict[str, Any]) -> None:
        """Records the plan, or checks it against the recorded one, and clears what an interruption left.

        Raises:
            UserError: The interrupted packing was another one, is damaged or is of a newer version of this program, or
                the disk is full.
        """
        path = self.work / _PLAN_FILE
        if path.exists():
            difference = spec_difference(_PLAN.read(path, read_json(path, _ADVICE)), spec)
            if difference:
                raise UserError(
                    f"{self.root} holds an unfinished packing with {difference}; finish it with its own command, "
                    "or delete the folder and start over."
                )
        with writing_to(f"to {self.root}", "fix this, then rerun the command"):
            if not path.exists():
                write_json(path, _PLAN.stamp(spec))
            for leftover in self.work.glob("*.tmp"):
                leftover.unlink()

    def finished(self, tasks: tuple[ShardTask, ...]) -> dict[str, ShardResult]:
        """Results of the shards that are already complete, by name."""
        results = {}
        for task in tasks:
            path = self.work / f"{task.name}.json"
            if not path.exists():
                continue
            try:
                content = read_json(path, _ADVICE)
                result = ShardResult(**{**content, "skipped": [(key, reason) for key, reason in content["skipped"]]})
            except (DamagedFile, KeyError, TypeError, ValueError):
                continue  # The shard is written again.
            shard = self.root / task.name
            if len(result.crc32) != len(result.positions):
                continue  # Written before results had checksums.
            if not result.num_bytes or (shard.exists() and shard.stat().st_size == result.num_bytes):
                results[task.name] = result.compact()
        return results

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *error: object) -> None:
        # Not left to the garbage collector: a notebook keeps the frames of the last error.
        self._held.close()

    def clear(self) -> None:
        """Removes the working files; the data set is complete.

        Raises:
            UserError: The disk refuses; the same command then tries again.
        """
        with writing_to(
            f"to {self.root}", "the data set is complete, but rerun the command to remove its working files"
        ):
            shutil.rmtree(self.work)


def existing_dataset(root: Path, spec: dict[str, Any]) -> Dataset | None:
    """The complete data set at ``root``, if it is the one that ``spec`` describes; None if there is none.

    Raises:
        UserError: A complete data set that was packed otherwise.
    """
    if not (root / DATASET_FILE).is_file():
        return None
    dataset = Dataset(root)
    difference = spec_difference(dataset.manifest.provenance, spec)
    if difference:
        raise UserError(f"{root} already holds a data set with {difference}; give another folder or delete that one.")
    # An interruption between the last two steps of a packing leaves these behind; or it is at them just now.
    work = root / PACKING_DIR
    if work.is_dir():
        with suppress(OSError, UserError), only_one(work / _LOCK, "it is at them"):
            shutil.rmtree(work)
    return dataset


def spec_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What sets two plans apart, as the end of a sentence; empty if nothing does."""
    if old.get("source") != new["source"]:
        return f"source {old.get('source')} instead of {new['source']}"
    old_options, new_options = old.get("options", {}), new["options"]
    changes = [
        f"{name} {old_options.get(name)} instead of {new_options.get(name)}"
        for name in dict.fromkeys([*new_options, *old_options])
        if old_options.get(name) != new_options.get(name)
    ]
    old_facts, new_facts = old.get("input") or {}, new["input"]
    # Without the notes, which another version may word differently, and without facts that it did not record.
    shared = [name for name in new_facts if name in old_facts and name != "notes"]
    if "commit" in shared and old_facts["commit"] != new_facts["commit"]:
        changes.append(f"commit {old_facts['commit']} instead of {new_facts['commit']}")
    elif "commit" in shared:
        shared.remove("revision")  # Two names of one commit.
    if not changes and (
        old.get("items_sha256") != new["items_sha256"] or any(old_facts[name] != new_facts[name] for name in shared)
    ):
        return "other images or labels"
    return ", ".join(changes)
