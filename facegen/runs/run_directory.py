"""The run directory: its lock, and whether a run may resume in it."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from facegen.options import TrainConfig
from facegen.runs.checkpoint import SET_ASIDE, newest_complete, set_aside_damaged
from facegen.runs.option_changes import forbidden_changes
from facegen.runs.snapshot import BEST, SNAPSHOTS, read_description
from facegen.runs.state_file import read_facts
from shards.base.errors import UserError
from shards.base.operating_system import lock_file
from shards.dataset.manifest import DATASET_FILE

CHECKPOINTS = "checkpoints"


def lock(run: Path, wait_sec: float = 30.0) -> IO[bytes]:
    """Takes the run directory for this process; the lock ends with the process.

    Args:
        run: The run directory, made where it does not exist.
        wait_sec: How long to wait for a process that is still saving.

    Raises:
        UserError: Another process trains in it, or it cannot be made.
    """
    try:
        if (run / DATASET_FILE).exists():
            raise UserError(f"{run} holds a data set; give another --run.")
        run.mkdir(parents=True, exist_ok=True)
        file = open(run / ".lock", "wb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write to {run} ({error.strerror}); give another --run.") from None
    deadline = time.monotonic() + wait_sec
    while True:
        try:
            lock_file(file, wait=False)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(f"another process is training in {run}; stop it or give another --run.") from None
            time.sleep(0.2)
        except OSError as error:
            raise UserError(
                f"{run} cannot be locked ({error.strerror}); mount its file system with locks (flock), or give a --run "
                "on another one."
            ) from None


def claim(
    config: TrainConfig, fingerprint: str, accelerator: Accelerator, file_options: Collection[str] = ()
) -> tuple[IO[bytes] | None, Path | None]:
    """Locks the run directory and finds the checkpoint to resume from; the main process decides for all.

    Args:
        config: Options of the run.
        fingerprint: Of its data.
        accelerator: The processes.
        file_options: As ``find_checkpoint``.

    Returns:
        The lock, held by the main process; the newest complete checkpoint, or None for a new run.

    Raises:
        UserError: On every process, as ``lock`` and ``find_checkpoint`` do.
    """
    held = None
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            held = lock(Path(config.run))
            set_aside_damaged(Path(config.run) / CHECKPOINTS)
            answer[0] = find_checkpoint(config, fingerprint, file_options)
        except UserError as error:
            answer[1] = str(error)
        except OSError as error:
            answer[1] = f"cannot write to {config.run} ({error.strerror}); fix this, then rerun the command."
    found, problem = broadcast_object_list(answer)
    if problem:
        if held:
            held.close()  # Not left to the garbage collector: a notebook keeps the frames of the last error.
        raise UserError(problem)
    return held, found


def find_checkpoint(config: TrainConfig, fingerprint: str, file_options: Collection[str] = ()) -> Path | None:
    """The newest complete checkpoint of the run, or None for a new run.

    Args:
        config: Options of the run.
        fingerprint: Of its data.
        file_options: Dotted names of the model's options that only say where a file lies; they may change.

    Raises:
        UserError: The run was made with other options or other data, or all its checkpoints are damaged.
    """
    run = Path(config.run)

    def check_same(old_config: dict[str, Any], old_fingerprint: str) -> None:
        if old_fingerprint != fingerprint:
            raise UserError(
                f"{run} was trained on data with fingerprint {old_fingerprint}, but {config.data} has {fingerprint}; "
                "give the data it was trained on, or another --run."
            )
        changed = forbidden_changes(old_config, config, file_options)
        if changed:
            raise UserError(
                f"{run} was started with other options: {', '.join(changed)}; give the same, or another --run."
            )

    checkpoint = newest_complete(run / CHECKPOINTS)
    if checkpoint:
        facts = read_facts(checkpoint)
        check_same(facts.config, facts.dataset_fingerprint)
        return checkpoint
    if any((run / CHECKPOINTS).glob(f"{SET_ASIDE}*")):
        raise UserError(
            f"every checkpoint of {run} is damaged; give another --run, or delete {run} to train it from its start."
        )
    # A run may have been killed before its first checkpoint; the same run will write the same snapshots again.
    for snapshots in (run / SNAPSHOTS, run / BEST):
        snapshot = newest_complete(snapshots)
        if snapshot:
            description = read_description(snapshot)
            check_same(description.config, description.dataset_fingerprint)
    return None
