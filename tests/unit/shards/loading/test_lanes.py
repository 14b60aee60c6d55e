"""Orders of several lanes: exactly once, elastic, resumable, and each machine reads its share of the shards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shards.base.errors import UserError
from shards.loading import order as order_module
from shards.loading.batch_plan import BatchPlan
from shards.loading.order import EpochOrder, default_canonical_nodes

SEEDS = st.integers(0, 2**40)
EPOCHS = st.integers(0, 1000)


class Case(NamedTuple):
    """Shards, lanes and a batch that go together."""

    sizes: list[int]
    num_lanes: int
    global_batch_size: int
    block_shards: int | None
    unit_size: int

    def order(self, seed: int) -> EpochOrder:
        return EpochOrder(self.sizes, seed, self.block_shards, self.num_lanes)

    def plan(self, seed: int, rank: int = 0, world_size: int = 1) -> BatchPlan:
        return BatchPlan(self.order(seed), self.global_batch_size, rank, world_size, self.unit_size)

    @property
    def world_sizes(self) -> list[int]:
        units = self.global_batch_size // self.unit_size
        return [number for number in range(1, units + 1) if units % number == 0]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    num_lanes = draw(st.integers(1, 8))
    assume(sum(sizes) >= num_lanes)
    unit_size = draw(st.integers(1, 3))
    lane_units = draw(st.integers(1, sum(sizes) // num_lanes))
    block_shards = draw(st.none() | st.integers(1, 4))
    return Case(sizes, num_lanes, num_lanes * lane_units * unit_size, block_shards, unit_size)


def batches(plan: BatchPlan, global_batch_size: int, first: int, num: int) -> list[tuple[int, list[int]]]:
    """Epoch and units of some batches."""
    found = [plan.batch(step * global_batch_size) for step in range(first, first + num)]
    return [(epoch, units.tolist()) for epoch, units in found]


@given(cases(), SEEDS, EPOCHS)
def test_the_line_of_an_epoch_holds_every_unit_once(case: Case, seed: int, epoch: int) -> None:
    order = case.order(seed)
    assert np.array_equal(np.sort(order.rows(epoch, 0, order.num_units)), np.arange(sum(case.sizes)))


@given(cases(), SEEDS, EPOCHS)
def test_an_epoch_repeats_nothing_and_leaves_out_less_than_a_batch(case: Case, seed: int, epoch: int) -> None:
    plan, size = case.plan(seed), case.global_batch_size
    found = batches(plan, size, epoch * plan.steps_per_epoch, plan.steps_per_epoch)
    assert {number for number, _ in found} == {epoch}
    used = [unit for _, units in found for unit in units]
    assert len(set(used)) == len(used) == plan.epoch_size // case.unit_size
    assert 0 <= sum(case.sizes) - len(used) < size // case.unit_size


@given(cases(), SEEDS, st.integers(0, 40), st.data())
def test_any_world_size_resumes_the_same_batches_anywhere(
    case: Case, seed: int, num_done: int, data: st.DataObject
) -> None:
    size, world_size = case.global_batch_size, data.draw(st.sampled_from(case.world_sizes))
    alone = batches(case.plan(seed), size, 0, num_done + 3)[num_done:]
    # New objects, as in new processes: only the number carries over.
    shares = [batches(case.plan(seed, rank, world_size), size, num_done, 3) for rank in range(world_size)]
    for expected, together in zip(alone, zip(*shares, strict=True), strict=True):
        assert {epoch for epoch, _ in together} == {expected[0]}
        assert {len(units) for _, units in together} == {len(expected[1]) // world_size}
        assert [unit for _, units in together for unit in units] == expected[1]


@given(cases(), SEEDS, EPOCHS, st.data())
def test_machines_read_a_shard_twice_only_where_lanes_meet(
    case: Case, seed: int, epoch: int, data: st.DataObject
) -> None:
    divisors = [number for number in range(1, case.num_lanes + 1) if case.num_lanes % number == 0]
    world_size, size = data.draw(st.sampled_from(divisors)), case.global_batch_size
    touched = []
    for rank in range(world_size):
        plan = case.plan(seed, rank, world_size)
        assert len(plan.lanes) == case.num_lanes // world_size
        found = batches(plan, size, epoch * plan.steps_per_epoch, plan.steps_per_epoch)
        units = np.concatenate([units for _, units in found])
        touched.append(set(np.searchsorted(np.cumsum(case.sizes), units, side="right").tolist()))
    assert sum(map(len, touched)) <= len(set.union(*touched)) + world_size - 1


@given(cases(), SEEDS, st.integers(0, 30), st.data())
def test_the_announced_blocks_hold_what_a_batch_reads_first(
    case: Case, seed: int, step: int, data: st.DataObject
) -> None:
    world_size = data.draw(st.sampled_from(case.world_sizes))
    plan = case.plan(seed, data.draw(st.integers(0, world_size - 1)), world_size)
    order, samples_seen = case.order(seed), step * case.global_batch_size
    epoch, units = plan.batch(samples_seen)
    blocks = [block for _, block in sorted(plan.blocks_at(samples_seen))]
    assert len(blocks) == len(plan.lanes)
    announced = order.shards_from(epoch, blocks)
    assert plan.shards_from(sorted(plan.blocks_at(samples_seen))).tolist() == announced.tolist()
    now = sum(len(order.layout(epoch).shards(block)) for block in blocks)
    assert now <= len(blocks) * order.block_shards
    lane_units = case.global_batch_size // case.unit_size // case.num_lanes
    rank_start = plan.first_slot // case.unit_size
    for lane in plan.lanes:
        first = max(0, lane * lane_units - rank_start)
        if lane * lane_units >= rank_start:  # The rank reads the lane from the start of its part in the batch.
            shard = int(np.searchsorted(np.cumsum(case.sizes), units[first], side="right"))
            assert shard in announced[:now]


def test_lanes_are_shuffled_within_blocks_and_all_lanes_meet_in_a_batch() -> None:
    order = EpochOrder([10] * 40, seed=0, block_shards=2, num_lanes=4)
    plan = BatchPlan(order, 16)
    _, units = plan.batch(0)
    lanes = [set((units[start : start + 4] // 10).tolist()) for start in range(0, 16, 4)]
    assert all(len(shards) <= 2 for shards in lanes)
    assert len(set.union(*lanes)) == sum(map(len, lanes)) >= 4
    assert order.layout(0).num_blocks == 20


def test_what_is_left_out_differs_from_epoch_to_epoch() -> None:
    plan = BatchPlan(EpochOrder([10] * 8, seed=3, num_lanes=4), 48)
    left_out = {frozenset(range(80)) - frozenset(batches(plan, 48, epoch, 1)[0][1]) for epoch in range(10)}
    assert len(left_out) == 10


def test_the_order_of_lanes_never_changes_between_releases() -> None:
    plan = BatchPlan(EpochOrder([7, 5, 9, 4], 42, 2, num_lanes=2), 8)
    assert batches(plan, 8, 9, 3) == [
        (3, [2, 3, 6, 0, 7, 16, 19, 15]),
        (3, [5, 1, 4, 21, 17, 14, 9, 8]),
        (3, [12, 23, 24, 22, 20, 18, 11, 13]),
    ]


def test_a_billion_samples_in_lanes_resume_anywhere() -> None:
    plan = BatchPlan(EpochOrder([10_000] * 100_000, seed=0, num_lanes=64), 256, 3, 8)
    epoch, rows = plan.batch(256 * 10**10)
    assert (epoch, len(rows)) == (256 * 10**10 // plan.epoch_size, 32)
    assert list(plan.lanes) == list(range(24, 32))


@pytest.mark.parametrize(
    ("sizes", "units_per_batch", "expected"),
    [
        ([1000] * 11, 128, 1),  # LFW: one block.
        ([1000] * 65, 128, 1),
        ([1000] * 66, 128, 8),
        ([1000] * 163, 128, 16),
        ([1000] * 100_000, 128, 64),
        ([1000] * 100_000, 96, 32),
        ([1000] * 100_000, 125, 1),
        ([1000] * 200 + [15_000], 128, 1),  # By the largest shard.
        ([200_000] * 7, 128, 1),
    ],
)
def test_the_default_number_of_lanes(sizes: list[int], units_per_batch: int, expected: int) -> None:
    assert default_canonical_nodes(np.array(sizes), units_per_batch) == expected


def test_blocks_of_all_lanes_together_are_as_wide_as_one() -> None:
    for num_lanes in (1, 2, 8, 64):
        order = EpochOrder([1000] * 1000, seed=0, num_lanes=num_lanes)
        units = order.block_shards * num_lanes * 1000
        assert order_module.TARGET_BLOCK_UNITS * 0.95 < units <= 67_000


@pytest.mark.parametrize(
    ("num_lanes", "sentence"), [(3, "use 2 or 4"), (64, "use 32"), (5, "divide a global batch of 32 units; use 4 or 8")]
)
def test_lanes_that_do_not_divide_the_batch_name_those_that_do(num_lanes: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        BatchPlan(EpochOrder([100], seed=0, num_lanes=num_lanes), 64, unit_size=2)


def test_impossible_numbers_of_lanes_are_refused() -> None:
    for num_lanes in (0, 101):
        with pytest.raises(UserError, match=f"canonical_nodes must be from 1 to 100, not {num_lanes}"):
            EpochOrder([100], seed=0, num_lanes=num_lanes)
