"""What a trial takes, and whether it fits into the machines of Ray."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from shards.base.errors import UserError
from tuning.sweep_config import SweepConfig


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
