"""The output of a packing: what is finished, what can be resumed, and what must not be touched.

While a packing runs, the output holds the finished shards and a hidden folder ``.packing`` with the plan, one result
file for each finished shard, and temporary files. ``dataset.json`` comes last; then ``.packing`` is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from shards.base.errors import DamagedFile, UserError
from shards.base.files import json_bytes, writing_to
from shards.base.formats import Format
from shards.base.records import json_value, parse_json
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, PACKING_DIR
from shards.dataset.stores import Store
from shards.packing.plan import ShardTask
from shards.packing.shard import ListedTask, ShardJob, ShardResult, write_shard

_PLAN_FILE = f"{PACKING_DIR}/plan.json"
_ADVICE = "delete the folder of the unfinished packing and start over"
_PLAN = Format("packing plan", version=1, first=1)
"""Versions of all that ``.packing`` holds: the plan names its own, which is also that of the results beside it."""
_READERS = 8


@dataclass(frozen=True)
class ShardWork:
    """Writes shards to the output. Picklable: any process that sees the output can do it."""

    job: ShardJob
    store: Store

    def __call__(self, listed: ListedTask, on_image: Callable[[], object]) -> ShardResult:
        """Writes one shard and its result file; when this returns, both are durable under their final names.

        Raises:
            OSError: The disk is full or not writable.
            UserError: This machine does not see the output, or an image cannot be read for now.
        """
        with self.store.making(listed.task.name) as path:
            result = write_shard(self.job, listed, path, on_image)
            if not result.num_bytes:
                path.unlink()
        # A shard counts once its result file exists, so the shard itself must be durable first.
        self.store.write(_result_name(listed.task.name), json_bytes(asdict(result)))
        return result


class Workspace:
    """The output of one packing; a folder is locked against a second packing until the block ends."""

    def __init__(self, store: Store) -> None:
        """Locks the output.

        Raises:
            UserError: Another packing is running there, or it holds other files or cannot be written to.
        """
        self.store = store
        held = store.hold(f"another packing is writing to {store}; wait for it or stop it.")
        if store.has(DATASET_FILE):
            held.close()
            raise UserError(
                f"another packing has just finished {store}; rerun the command to check that it is the same."
            )
        self._held = held

    def begin(self, spec: dict[str, Any]) -> None:
        """Records the plan, or checks it against the recorded one.

        Raises:
            UserError: The interrupted packing was another one, is damaged or is of a newer version of this program, or
                the disk is full.
        """
        path = f"{self.store}/{_PLAN_FILE}"
        with writing_to(f"to {self.store}", "fix this, then rerun the command"):
            recorded = self.store.settle(_PLAN_FILE, json_bytes(_PLAN.stamp(spec)))
        difference = spec_difference(_PLAN.read(path, json_value(recorded, path, _ADVICE)), spec)
        if difference:
            raise UserError(
                f"{self.store} holds an unfinished packing with {difference}; finish it with its own command, "
                "or delete the folder and start over."
            )

    def finished(self, tasks: Iterable[ShardTask]) -> dict[str, ShardResult]:
        """Results of the shards that are already complete, by name."""
        sizes = self.store.sizes()
        names = [task.name for task in tasks if _result_name(task.name) in sizes]
        with ThreadPoolExecutor(_READERS) as pool:  # A place behind an address answers slowly.
            contents = pool.map(self.store.read, map(_result_name, names))
            results = {name: _result(content) for name, content in zip(names, contents, strict=True)}
        return {
            name: result.compact()
            for name, result in results.items()
            if result is not None and (not result.num_bytes or sizes.get(name) == result.num_bytes)
        }

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
        advice = "the data set is complete, but rerun the command to remove its working files"
        with writing_to(f"to {self.store}", advice):
            self.store.clear(self._held)


def _result_name(shard: str) -> str:
    return f"{PACKING_DIR}/{shard}.json"


def _result(content: bytes | None) -> ShardResult | None:
    """What a result file says; None where it is gone or damaged, or has no checksums, as older ones: written again."""
    try:
        values = parse_json(content or b"")
        result = ShardResult(**{**values, "skipped": [(key, reason) for key, reason in values["skipped"]]})
    except (DamagedFile, KeyError, TypeError, ValueError):
        return None
    return result if len(result.crc32) == len(result.positions) else None


def existing_dataset(store: Store, spec: dict[str, Any]) -> Dataset | None:
    """The complete data set at the output, if it is the one that ``spec`` describes; None if there is none.

    Raises:
        UserError: A complete data set that was packed otherwise.
    """
    if not store.has(DATASET_FILE):
        return None
    dataset = Dataset(str(store))
    difference = spec_difference(dataset.manifest.provenance, spec)
    if difference:
        raise UserError(f"{store} already holds a data set with {difference}; give another folder or delete that one.")
    # An interruption between the last two steps of a packing leaves these behind; or it is at them just now.
    if any(name.startswith(f"{PACKING_DIR}/") for name in store.sizes()):
        with suppress(OSError, UserError), store.hold("it is at them") as held:
            store.clear(held)
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
