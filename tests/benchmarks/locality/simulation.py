"""How many shards each machine touches in an epoch or an evaluation, from the plan itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.loading.batch_plan import BatchPlan, evaluation_rows
from shards.loading.order import EpochOrder

SAMPLES_PER_SHARD = 1_000
SHARD_MB = 4.42
"""A shard of a thousand faces of LFW at 64 pixels."""
BATCH_SIZE = 1_024
EVALUATION_BATCH = 64
NODES = (2, 8, 16, 64)
_FINEST = max(NODES)


@dataclass(frozen=True)
class Traffic:
    """One epoch of one order on some machines, each of which starts with an empty cache."""

    num_shards: int
    canonical_nodes: int
    nodes: int
    most_shards_of_a_node: int
    fetched_gb: float
    """By all machines together."""
    times_the_data: float


def simulate(num_shards: int, canonical_nodes: int) -> list[Traffic]:
    """Plans an epoch and notes which shards each machine's part of the batches comes from.

    A machine reads a shard within one block of one lane, so that a cache of two blocks fetches none of them again.
    """
    order = EpochOrder([SAMPLES_PER_SHARD] * num_shards, seed=0, num_lanes=canonical_nodes)
    plan = BatchPlan(order, BATCH_SIZE)
    touched = np.zeros((_FINEST, num_shards), bool)
    node = np.repeat(np.arange(_FINEST), BATCH_SIZE // _FINEST)
    for step in range(plan.steps_per_epoch):
        _, units = plan.batch(step * BATCH_SIZE)
        touched[node, units // SAMPLES_PER_SHARD] = True
    found = []
    for nodes in NODES:
        per_node = touched.reshape(nodes, -1, num_shards).any(1).sum(1)
        total = int(per_node.sum())
        gigabytes = round(total * SHARD_MB / 1e3, 1)
        found.append(
            Traffic(num_shards, canonical_nodes, nodes, int(per_node.max()), gigabytes, round(total / num_shards, 3))
        )
    return found


@dataclass(frozen=True)
class Evaluation:
    """One pass over a split on some machines, each of which starts with an empty cache."""

    num_shards: int
    nodes: int
    most_shards_of_a_node: int
    times_the_data: float
    times_the_data_in_turn: float
    """If batches were dealt to machines in turn, as before they took neighboring ones."""


def simulate_evaluation(num_shards: int) -> list[Evaluation]:
    """Notes which shards each machine's batches come from."""
    num_samples = num_shards * SAMPLES_PER_SHARD
    every_batch = np.array([(rows[0], rows[-1]) for rows in evaluation_rows(num_samples, EVALUATION_BATCH)])
    found = []
    for nodes in NODES:
        own = [_touched(_ends(num_samples, node, nodes)) for node in range(nodes)]
        in_turn = [_touched(every_batch[node::nodes]) for node in range(nodes)]
        times, times_in_turn = (round(sum(shares) / num_shards, 3) for shares in (own, in_turn))
        found.append(Evaluation(num_shards, nodes, max(own), times, times_in_turn))
    return found


def _ends(num_samples: int, node: int, nodes: int) -> np.ndarray:
    """The first and the last row of each batch of a machine, int64 (batches, 2)."""
    return np.array([(rows[0], rows[-1]) for rows in evaluation_rows(num_samples, EVALUATION_BATCH, node, nodes)])


def _touched(ends: np.ndarray) -> int:
    return len(np.unique(ends // SAMPLES_PER_SHARD))
