"""Ray: started on this machine or joined elsewhere, and whether a trial fits into it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from shards.base.errors import UserError
from tuning.sweep_config import SweepConfig

_OBJECT_STORE_BYTES = 100 * 2**20
"""Nothing large passes through Ray's object store: images are read from the shards, weights stay in the runs."""

_STARTS = 4


@dataclass(frozen=True)
class Need:
    """What one trial takes."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float

    @classmethod
    def of(cls, config: SweepConfig) -> Need:
        """The resources of a trial, divided among its workers."""
        workers = config.workers_per_trial
        return cls(workers, config.cpus_per_trial / workers, config.gpus_per_trial / workers)

    def per_worker(self) -> dict[str, float]:
        """Ray's resources of one worker."""
        resources = {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_worker}
        return {name: amount for name, amount in resources.items() if amount}


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
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"cannot reach Ray at {address}: {' '.join(str(error).split())}") from None


def _start(num_cpus: int | None) -> None:
    """Starts Ray here, more than once if needed: on a busy machine its parts may miss their half minute to start."""
    for _ in range(_STARTS):
        try:
            ray.init(
                "local",
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


def max_concurrent(need: Need) -> int:
    """How many trials fit into the machines that Ray has now.

    Raises:
        UserError: Not a single one fits.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    per_worker = need.per_worker()
    slots = 0
    for node in nodes:
        slots += int(min(node.get(name, 0.0) / amount + 1e-9 for name, amount in per_worker.items()))
    if slots >= need.num_workers:
        return slots // need.num_workers
    asked = " and ".join(f"{amount:g} {name}s" for name, amount in per_worker.items())
    there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
    workers = f"{need.num_workers} workers with {asked} each" if need.num_workers > 1 else asked
    raise UserError(
        f"a trial takes {workers}, but Ray has {there}: lower --cpus_per_trial, --gpus_per_trial or "
        "--workers_per_trial, or join a larger cluster with --address."
    )
