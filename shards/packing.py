"""Carries out a packing plan: shards in parallel, each one durable before it counts, so that it can resume anywhere.

While it runs, the output directory holds the finished shards and a hidden directory ``.packing`` with the plan, one
result file for each finished shard and temporary files. ``dataset.json`` comes last; then ``.packing`` goes.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.cli import UserError
from shards.codecs import encode
from shards.dataset import DATASET_FILE, PACKING_DIR, Dataset
from shards.images import BadImage, Preparation, prepare
from shards.packing_plan import Encoding, ShardTask
from shards.sources.base import Item, Source
from shards.tar import ShardWriter, member_key, read_samples, sha256_file

_PLAN_FILE = "plan.json"
_POLL_SEC = 0.2


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard task.

    Attributes:
        name: The shard's file name.
        num_bytes: Size of the file; 0 where every item was skipped, so that there is none.
        sha256: Checksum of the file.
        positions: The packed items, by position in the source, in file order.
        offsets: Where each image starts in the file.
        sizes: How many bytes each image has.
        skipped: Key and reason of each item that could not be packed.
        num_enlarged: Images that were smaller than the packed size.
    """

    name: str
    num_bytes: int
    sha256: str
    positions: list[int]
    offsets: list[int]
    sizes: list[int]
    skipped: list[tuple[str, str]]
    num_enlarged: int


@dataclass(frozen=True)
class ShardJob:
    """What a worker process needs besides a task."""

    source: Source
    preparation: Preparation
    encoding: Encoding
    root: Path


def write_shard(job: ShardJob, task: ShardTask, on_image: Callable[[], object]) -> ShardResult:
    """Writes one shard and its result file; both are on disk, under their final names, when this returns.

    Args:
        job: Source and image options.
        task: Which items.
        on_image: Called after each item, packed or skipped.

    Raises:
        OSError: The disk is full or not writable.
    """
    temporary = job.root / PACKING_DIR / f"{task.name}.tmp"
    positions, skipped, num_enlarged = [], [], 0
    with ShardWriter(temporary) as writer:
        for position in task.positions.tolist():
            item = job.source[position]
            try:
                pixels, enlarged = prepare(job.source.load(item), job.preparation)
            except (OSError, ValueError) as error:
                skipped.append((item.key, error.reason if isinstance(error, BadImage) else "damaged image"))
            else:
                key = member_key(item.key)
                image = encode(pixels, job.encoding.extension, **job.encoding.codec_options)
                writer.add(key, job.encoding.extension, image)
                writer.add(key, "json", _labels_json(item))
                positions.append(position)
                num_enlarged += enlarged
            on_image()
    members = [sample.find((job.encoding.extension,)) for sample in read_samples(temporary)]
    images = [member for member in members if member is not None]
    assert len(images) == len(positions), f"{temporary} lost samples"
    result = ShardResult(
        name=task.name,
        num_bytes=temporary.stat().st_size if images else 0,
        sha256=sha256_file(temporary),
        positions=positions,
        offsets=[image.offset for image in images],
        sizes=[image.size for image in images],
        skipped=skipped,
        num_enlarged=num_enlarged,
    )
    if images:
        _rename(temporary, job.root / task.name)
    else:
        temporary.unlink()
    # The result file is what makes the shard count, so it must not reach the disk before the shard does.
    _write_json(job.root / PACKING_DIR / f"{task.name}.json", asdict(result))
    return result


class Workspace:
    """The output directory of one packing, locked against a second one."""

    def __init__(self, root: Path) -> None:
        """Creates and locks the directory.

        Raises:
            UserError: Another packing is at work there, or it holds other files.
        """
        self.root = root
        self.work = root / PACKING_DIR
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give a folder for the data set.")
        if root.is_dir() and not self.work.is_dir() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and holds no packing to go on with; give a new or empty folder.")
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.work / "lock", "w")  # noqa: SIM115 - held until the process ends
        except OSError as error:
            raise UserError(f"cannot write to {root} ({error.strerror}); give another output folder.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another packing is writing to {root}; wait for it or stop it.") from None

    def begin(self, spec: dict[str, Any]) -> None:
        """Records the plan, or checks it against the recorded one, and clears what an interruption left.

        Raises:
            UserError: The interrupted packing was another one.
        """
        path = self.work / _PLAN_FILE
        if path.exists():
            difference = spec_difference(json.loads(path.read_text()), spec)
            if difference:
                raise UserError(
                    f"{self.root} holds an unfinished packing with {difference}; finish it with its own command, "
                    "or delete the folder and start anew."
                )
        else:
            _write_json(path, spec)
        for leftover in self.work.glob("*.tmp"):
            leftover.unlink()

    def finished(self, tasks: tuple[ShardTask, ...]) -> dict[str, ShardResult]:
        """Results of the shards that are already complete, by name."""
        results = {}
        for task in tasks:
            path = self.work / f"{task.name}.json"
            if path.exists():
                content = json.loads(path.read_text())
                result = ShardResult(**{**content, "skipped": [(key, reason) for key, reason in content["skipped"]]})
                shard = self.root / task.name
                if not result.num_bytes or (shard.exists() and shard.stat().st_size == result.num_bytes):
                    results[task.name] = result
        return results

    def close(self) -> None:
        """Removes the working files; the data set is complete."""
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
    # An interruption between the last two steps of a packing leaves these behind.
    shutil.rmtree(root / PACKING_DIR, ignore_errors=True)
    return dataset


def spec_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What sets two plans apart, as the end of a sentence; empty where nothing does."""
    if old.get("source") != new["source"]:
        return f"source {old.get('source')} instead of {new['source']}"
    old_options = old.get("options", {})
    changes = [
        f"{name} {old_options.get(name)} instead of {value}"
        for name, value in new["options"].items()
        if old_options.get(name) != value
    ]
    if not changes and any(old.get(name) != new[name] for name in ("input", "items_sha256")):
        return "other images or labels"
    return ", ".join(changes)


def run_tasks(
    job: ShardJob, tasks: list[ShardTask], workers: int, on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    """Writes shards, in this process or in several, and yields each result when its shard is done.

    Args:
        job: Source and image options.
        tasks: The shards to write.
        workers: Number of processes; 1 works in this one.
        on_images: Called with the number of items done since the last call.

    Raises:
        UserError: The disk is full or not writable, or a worker died.
    """
    try:
        if workers == 1 or len(tasks) == 1:
            for task in tasks:
                yield write_shard(job, task, lambda: on_images(1))
        else:
            yield from _run_in_processes(job, tasks, min(workers, len(tasks)), on_images)
    except BrokenProcessPool:
        raise UserError("a worker process died (out of memory?); run the same command with fewer --workers.") from None
    except OSError as error:
        raise UserError(f"cannot write to {job.root} ({error}); mend that and run the same command again.") from None


def _run_in_processes(
    job: ShardJob, tasks: list[ShardTask], workers: int, on_images: Callable[[int], object]
) -> Generator[ShardResult, None, None]:
    # Spawn, because forking a process that has threads (progress bar, libraries) can deadlock.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (job, counter))
    num_reported = 0
    try:
        pending: set[Future[ShardResult]] = {pool.submit(_write_shard_in_worker, task) for task in tasks}
        while pending:
            done, pending = wait(pending, _POLL_SEC, FIRST_COMPLETED)
            num_done = counter.value
            on_images(num_done - num_reported)
            num_reported = num_done
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(job: ShardJob, counter: Any) -> None:
    global _worker_job, _worker_counter
    _worker_job, _worker_counter = job, counter
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent was killed: it would otherwise go on writing beside a resumed packing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_shard_in_worker(task: ShardTask) -> ShardResult:
    return write_shard(_worker_job, task, _count_image)


def _count_image() -> None:
    with _worker_counter.get_lock():
        _worker_counter.value += 1


def _labels_json(item: Item) -> bytes:
    """The labels that are there: neither None nor NaN, which JSON lacks."""
    labels = {name: value for name, value in item.labels.items() if value is not None and value == value}
    return json.dumps(labels, allow_nan=False).encode()


def _write_json(path: Path, content: Any) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    _rename(temporary, path)


def _rename(temporary: Path, final: Path) -> None:
    """Renames and makes the new name durable."""
    os.replace(temporary, final)
    directory = os.open(final.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
