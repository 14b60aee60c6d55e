"""A packing on a Ray cluster of this machine that loses nodes and workers at random, as on spot machines.

The command lives through all of it: whenever so many shards are there as the seed says, a node and all on it is
killed, and another one comes, or the worker of one task is. In the end the data set must be that of one machine.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.victims.outcome import Kill, NotSurvivedError, Survival
from tests.benchmarks.victims.programs import ROOT, Packing, environment

KILLS = ("SIGKILL to a node", "SIGKILL to a worker")
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
_NUM_SHARDS = 60
"""Of ``Packing``."""
_WAIT_SEC = 300.0
"""Longest wait for the next kill, and for the end."""


class _SmallPacking(Packing):
    num_images = 600


def survive(folder: Path, num_kills: int, seed: int, tell: Callable[[str], None]) -> Survival:
    """Packs on two nodes, one of which is the head and stays, and loses nodes or workers ``num_kills`` times.

    Args:
        folder: Folder for the data sets.
        num_kills: At most a third of the shards.
        seed: Decides what is killed, how and when.
        tell: Called with a line after each kill.

    Raises:
        NotSurvivedError: The command failed, or hangs.
    """
    program, rng = _SmallPacking(folder, folder), random.Random(f"{seed} spot")
    subprocess.run(program.command(folder / "whole"), env=environment(), cwd=ROOT, check=True, capture_output=True)
    moments = sorted(rng.sample(range(1, 2 * _NUM_SHARDS // 3), num_kills))
    kinds = rng.sample(KILLS * num_kills, num_kills)
    kills, out = [], folder / "killed"
    with _cluster() as cluster, open(folder / "life.log", "w+") as log:
        cluster.add_node(**_NODE)
        command = [*program.command(out), "--address", cluster.address]
        main = subprocess.Popen(command, env=environment(), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            for number, (num_shards, kill) in enumerate(zip(moments, kinds, strict=True), 1):
                _await_shards(main, out, num_shards)
                started_sec = time.monotonic()
                _strike(kill, cluster, rng)
                kills.append(Kill(kill, f"after {num_shards} shards", round(time.monotonic() - started_sec, 2)))
                tell(f"spot, kill {number}: {kill} after {num_shards} of {_NUM_SHARDS} shards")
            code = main.wait(_WAIT_SEC)
        finally:
            main.kill()
            main.wait()
        if code != 0:
            log.seek(0)
            raise NotSurvivedError(f"the packing does not finish:\n{log.read()[-2000:]}")
    expected, found = program.result(folder / "whole"), program.result(out)
    differing = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    return Survival("spot packing", seed, 0, kills, sorted(differing))


@contextmanager
def _cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_worker_niceness": "0"}  # Beside other programs, polite workers would take an hour.
    cluster = Cluster(initialize_head=True, head_node_args=_NODE)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _await_shards(main: subprocess.Popen[bytes], out: Path, num_shards: int) -> None:
    deadline = time.monotonic() + _WAIT_SEC
    while len(list(out.glob(".packing/*.tar.json"))) < num_shards:
        if main.poll() is not None or time.monotonic() > deadline:
            raise NotSurvivedError(f"it ended, or waits, before it had {num_shards} shards")
        time.sleep(0.01)


def _strike(kill: str, cluster: Any, rng: random.Random) -> None:
    if kill == "SIGKILL to a node":
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(**_NODE)
        return
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    workers = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True) if _works(child)]
    for worker in rng.sample(workers, min(1, len(workers))):
        with suppress(psutil.NoSuchProcess):
            worker.kill()


def _works(process: psutil.Process) -> bool:
    """Whether it does a task now; Ray writes that into its title."""
    with suppress(psutil.Error):
        return process.cmdline()[:1] == ["ray::_do"]
    return False
