"""Writes the shards of a packing plan, in one process or several; each is durable before it counts."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.alignment import NO_FACE, Alignment, prepare_aligned
from shards.cli import UserError
from shards.codecs import encode
from shards.dataset import PACKING_DIR
from shards.images import BadImage, Preparation, prepare
from shards.packing_plan import Encoding, ShardTask
from shards.sources.base import Item, Source
from shards.tar import ShardWriter, member_key, sha256_file

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
        crc32: Checksum of each image's bytes; none in the results of older versions.
        skipped: Name and reason of each item that could not be packed.
        num_enlarged: Images that were smaller than the packed size.
        faceless: Items in which alignment found no face, skipped or not, by position in the source.
    """

    name: str
    num_bytes: int
    sha256: str
    positions: Sequence[int] | np.ndarray
    offsets: Sequence[int] | np.ndarray
    sizes: Sequence[int] | np.ndarray
    skipped: list[tuple[str, str]]
    num_enlarged: int
    faceless: list[int] = field(default_factory=list)
    crc32: Sequence[int] | np.ndarray = ()

    def compact(self) -> ShardResult:
        """The same with int64 arrays, at a fifth of the memory of lists."""
        columns = {name: np.array(getattr(self, name), np.int64) for name in ("positions", "offsets", "sizes", "crc32")}
        return replace(self, **columns)


@dataclass(frozen=True)
class ShardJob:
    """What a worker process needs besides a task."""

    source: Source
    preparation: Preparation
    encoding: Encoding
    root: Path
    alignment: Alignment | None = None


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
    positions, offsets, sizes, crc32, skipped, faceless, num_enlarged = [], [], [], [], [], [], 0
    with ShardWriter(temporary) as writer:
        for position in task.positions.tolist():
            item = job.source[position]
            try:
                pixels, enlarged, has_face = _prepare(job, item)
            except UserError:
                raise
            except (OSError, ValueError) as error:
                # Files are named as they are called on the disk, rendered items by their key.
                name = item.ref if isinstance(item.ref, str) else item.key
                reason = error.reason if isinstance(error, BadImage) else "damaged image"
                skipped.append((name, reason))
                faceless += [position] if reason == NO_FACE else []
            else:
                key = member_key(item.key)
                image = encode(pixels, job.encoding.extension, **job.encoding.codec_options)
                offsets.append(writer.add(key, job.encoding.extension, image))
                writer.add(key, "json", _labels_json(item))
                positions.append(position)
                sizes.append(len(image))
                crc32.append(zlib.crc32(image))
                num_enlarged += enlarged
                faceless += [] if has_face else [position]
            on_image()
    result = ShardResult(
        name=task.name,
        num_bytes=temporary.stat().st_size if positions else 0,
        sha256=sha256_file(temporary),
        positions=positions,
        offsets=offsets,
        sizes=sizes,
        skipped=skipped,
        num_enlarged=num_enlarged,
        faceless=faceless,
        crc32=crc32,
    )
    if positions:
        _rename(temporary, job.root / task.name)
    else:
        temporary.unlink()
    # The result file is what makes the shard count, so it must not reach the disk before the shard does.
    write_json(job.root / PACKING_DIR / f"{task.name}.json", asdict(result))
    return result


def _prepare(job: ShardJob, item: Item) -> tuple[np.ndarray, bool, bool]:
    """Pixels of an item, whether it was enlarged, and (True without alignment) whether it has a face."""
    image = job.source.load(item)
    if job.alignment is not None:
        return prepare_aligned(image, job.preparation, job.alignment)
    return *prepare(image, job.preparation), True


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
        raise UserError(
            "a worker process died (out of memory?); run the same command again, perhaps with fewer --workers."
        ) from None
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
        with _interrupts_held():  # the workers start with the first task
            pending: set[Future[ShardResult]] = {pool.submit(_write_shard_in_worker, task) for task in tasks}
        while pending:
            done, pending = wait(pending, _POLL_SEC, FIRST_COMPLETED)
            num_done = counter.get_obj().value  # Without its lock, which a worker that was killed may hold.
            on_images(num_done - num_reported)
            num_reported = num_done
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block, and makes processes that start in it deaf to it for good.

    Ctrl-C reaches the whole process group, but the parent alone decides what it means; and an interrupt in the midst of
    starting the pool would leave workers that nobody waits for. The mask is what child processes inherit. It does not
    protect this process, where any other thread may take the signal: that is what the handler is for.
    """
    held: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    replaces = threading.current_thread() is threading.main_thread() and callable(previous)
    if replaces:
        signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if replaces:
            signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


def _start_worker(job: ShardJob, counter: Any) -> None:
    global _worker_job, _worker_counter
    _worker_job, _worker_counter = job, counter
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


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is whole and durable as soon as its name is there."""
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
