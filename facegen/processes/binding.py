"""Gives each process of a machine its own cores.

A process that waits for the others' gradients sleeps, and often wakes up on a core where another one computes. The two
then take turns, and every process waits for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import gather_object

Place = tuple[str, tuple[int, ...]]
"""A machine, and those of its cores that a process may use."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Its content differs between machines, whose names may not; Linux only."""


def limit_threads(num_cores: int) -> None:
    """Limits this process to as many threads as it has cores.

    accelerate's launcher counts all cores of the machine, of which a scheduler may have granted only some.
    """
    torch.set_num_threads(min(torch.get_num_threads(), max(1, num_cores)))


def bind_to_cores() -> None:
    """Binds this thread, and those that it starts from now on, to this process's share of the cores.

    Every process of the group must call it. It also limits the threads to the cores. No process is bound where a
    scheduler has already distributed the cores, where there are fewer cores than processes, and outside Linux.
    """
    if not (hasattr(os, "sched_setaffinity") and _BOOT_ID.exists()):
        return
    here = (_BOOT_ID.read_text("utf-8").strip(), tuple(sorted(os.sched_getaffinity(0))))
    everyone: list[Place] = gather_object([here])
    rank = torch.distributed.get_rank()
    own = share_of_cores(everyone, rank)
    limit_threads(len(own))
    if own:
        os.sched_setaffinity(0, own)


def share_of_cores(places: Sequence[Place], rank: int) -> tuple[int, ...]:
    """The cores of process ``rank``: an equal part of those that it would share, adjacent, and its alone.

    Args:
        places: Of each process.
        rank: Which of them.

    Returns:
        Core numbers; none where there are more processes than cores.
    """
    together = [number for number, place in enumerate(places) if place == places[rank]]
    _, cores = places[rank]
    num_each = len(cores) // len(together)
    first = together.index(rank) * num_each
    return cores[first : first + num_each]
