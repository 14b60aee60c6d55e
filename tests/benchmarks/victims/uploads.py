"""Uploads of a run to an object store (S3 as moto plays it), killed while they copy.

The process saves a checkpoint, sends the run, says so, and begins again. After each kill, what the store holds is
fetched into an empty folder: every checkpoint there must be whole, and the newest one at least the last one announced.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from facegen.runs.checkpoint import MARKER, damage, directory_name, newest_complete, prune, write_complete
from tests.benchmarks.victims.outcome import Kill, NotSurvivedError, Progress, Survival
from tests.benchmarks.victims.programs import ROOT, environment
from tuning.trials.run_storage import RunStorage

URL = "s3://runs/sweep"
_START_SEC = 60.0
_FILES, _FILE_BYTES = 4, 300_000


def survive(folder: Path, num_kills: int, seed: int, tell: Callable[[str], None]) -> Survival:
    """Kills an uploading process ``num_kills`` times.

    Args:
        folder: Folder for the run; kills that it remembers are not repeated.
        num_kills: Number of kills.
        seed: Decides when.
        tell: Called with a line after each kill.

    Raises:
        NotSurvivedError: The store has lost a checkpoint, or holds a damaged one.
    """
    progress, run = Progress(folder, seed), folder / "run"
    shutil.rmtree(run, ignore_errors=True)  # The store is new as well.
    with _object_store():
        for number in range(len(progress.kills) + 1, num_kills + 1):
            wait_sec = random.Random(f"{seed} uploads {number}").uniform(0, 2)
            sent, end_sec = _live_and_die(run, wait_sec, folder / "life.log")
            newest = _check(folder / "fetched", sent)
            progress.add(Kill("SIGKILL to the sender", "writing", round(end_sec, 2), None, sent, newest))
            tell(f"uploads, kill {number}: {wait_sec:.2f} s after the first; {sent} were sent, {newest} are there")
        RunStorage(URL).save("trial", run)
        RunStorage(URL).fetch("trial", folder / "fetched")
        differing = sorted(_files(run) ^ _files(folder / "fetched"))
    return Survival("uploads", seed, 0, progress.kills, [name for name, _ in differing])


def send(run: Path) -> None:
    """What the killed process does, for ever."""
    storage, checkpoints = RunStorage(URL), run / "checkpoints"
    newest = newest_complete(checkpoints)
    number = int(newest.name.removeprefix("images_")) if newest else 0
    while True:
        number += 1

        def write(directory: Path) -> None:
            for part in range(_FILES):
                (directory / f"part{part}.bin").write_bytes(os.urandom(_FILE_BYTES))

        write_complete(checkpoints / directory_name(number), write)
        prune(checkpoints, 2)
        storage.save("trial", run)
        print(number, flush=True)


def _live_and_die(run: Path, wait_sec: float, log: Path) -> tuple[int, float]:
    """The last checkpoint that the process said to be sent, and how long it took to end."""
    with open(log, "w") as file:
        command = [sys.executable, "-m", "tests.benchmarks.victims.uploads", str(run)]
        sender = subprocess.Popen(command, env=environment(), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    deadline = time.monotonic() + _START_SEC
    while not log.read_text().strip():
        if sender.poll() is not None or time.monotonic() > deadline:
            raise NotSurvivedError(f"it does not send:\n{log.read_text()[-2000:]}")
        time.sleep(0.01)
    time.sleep(wait_sec)
    struck_sec = time.monotonic()
    sender.kill()
    sender.wait()
    return int(log.read_text().split()[-1]), time.monotonic() - struck_sec


def _check(fetched: Path, sent: int) -> int:
    """The newest checkpoint in the store."""
    shutil.rmtree(fetched, ignore_errors=True)
    RunStorage(URL).fetch("trial", fetched)
    for directory in (fetched / "checkpoints").iterdir():
        problem = damage(directory)
        if problem:
            raise NotSurvivedError(f"{directory.name} is damaged: {problem}")
    newest = newest_complete(fetched / "checkpoints")
    number = int(newest.name.removeprefix("images_")) if newest else 0
    if number < sent:
        raise NotSurvivedError(f"checkpoint {sent} was sent, but the newest in the store is {number}")
    return number


def _files(root: Path) -> set[tuple[str, int]]:
    return {(str(path.relative_to(root)), path.stat().st_size) for path in root.rglob(f"*/{MARKER}")}


@contextmanager
def _object_store() -> Iterator[None]:
    """An S3 server in this process; fsspec and botocore read its address and keys from the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    settings = {"FSSPEC_S3_ENDPOINT_URL": address, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    with mock.patch.dict(os.environ, settings):
        boto3.client("s3").create_bucket(Bucket="runs")
        yield
    server.stop()


if __name__ == "__main__":
    send(Path(sys.argv[1]))
