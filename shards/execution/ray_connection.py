"""Ray: started on this machine, or joined elsewhere."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from shards.base.errors import UserError

_OBJECT_STORE_BYTES = 100 * 2**20
"""Nothing large passes through Ray's object store: images are read from disks and shards, weights stay in the runs."""

_STARTS = 4
_KNOCK_SEC = 10.0
_CLIENT = "ray://"
_ROOT = str(Path(__file__).resolve().parents[2])
"""Where this project lies."""


class _WorkersPath(list[str]):
    """Where Ray's workers look for modules, the last folder before all others.

    Ray adds the driver's current folder, in which a folder of the user's named eval would hide ours.
    """

    def extend(self, folders: Iterable[str]) -> None:
        super().extend([*folders, _ROOT])


@contextmanager
def connected(address: str | None, num_cpus: int | None) -> Iterator[None]:
    """Starts Ray on this machine, or joins the one at ``address``, for the time inside.

    A Ray that this process has joined already is used as it is, and left running.

    Raises:
        UserError: There is none at that address, or it does not start.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address:
        _join(address)
    else:
        _start(num_cpus)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        _knock(address)
        job: dict[str, Any] = {} if address.startswith(_CLIENT) else {"job_config": _job()}
        ray.init(address, **job, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot reach Ray at {address}: {' '.join(str(error).split())}") from None


def _job() -> JobConfig:
    return JobConfig(_py_driver_sys_path=_WorkersPath([_ROOT]))


def _knock(address: str) -> None:
    """Fails at once where nothing answers at a host and port; Ray would try for minutes."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SEC).close()


def _start(num_cpus: int | None) -> None:
    """Starts Ray here, more than once if needed: on a busy machine its parts may miss their half minute to start."""
    for _ in range(_STARTS):
        try:
            ray.init(
                "local",
                job_config=_job(),
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
            return
        except Exception as error:  # Ray raises nothing more specific when a part of it does not start.
            reason = " ".join(str(error).split())
            ray.shutdown()
    raise UserError(f"Ray does not start on this machine: {reason}")
