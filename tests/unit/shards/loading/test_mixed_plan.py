"""Weighted mixes: exactly once within each part, elastic, resumable, and true to the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shards.base.errors import UserError
from shards.loading.mixed_plan import MixedPlan, Pattern, lanes_that_fit, mixed_orders

SHARES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


class Case(NamedTuple):
    """Parts, lanes and a batch that go together."""

    parts: dict[str, np.ndarray]
    shares: list[int]
    num_lanes: int
    batch_size: int

    def plan(self, rank: int = 0, world_size: int = 1) -> MixedPlan:
        orders = mixed_orders(self.parts, 3, self.num_lanes)
        return MixedPlan(orders, self.shares, self.batch_size, rank, world_size)

    def batches(self, first: int, num: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
        plan = self.plan(rank, world_size)
        return [plan.batch(step * self.batch_size)[1].tolist() for step in range(first, first + num)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shares, num_lanes = draw(SHARES), draw(st.integers(1, 4))
    parts = {
        f"part {number}": np.array(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)))
        for number in range(len(shares))
    }
    assume(all(sizes.sum() >= num_lanes for sizes in parts.values()))
    most = sum(int(sizes.sum()) for sizes in parts.values()) // num_lanes
    return Case(parts, shares, num_lanes, num_lanes * draw(st.integers(1, min(most, 6))))


@given(SHARES, st.integers(0, 200), st.integers(0, 60))
def test_a_pattern_counts_what_it_deals(shares: list[int], start: int, length: int) -> None:
    pattern = Pattern(shares)
    dealt = pattern.parts(start, start + length)
    for part, share in enumerate(shares):
        assert pattern.count(part, start + length) - pattern.count(part, start) == (dealt == part).sum()
        assert abs(pattern.count(part, start) - start * share / sum(shares)) < len(shares)


@given(cases())
def test_each_lane_of_a_part_is_passed_again_and_again_without_repeats_or_gaps(case: Case) -> None:
    used = np.array(case.batches(0, 40)).reshape(40, case.num_lanes, -1)
    first_unit = 0
    for sizes, order in zip(case.parts.values(), mixed_orders(case.parts, 3, case.num_lanes), strict=True):
        for lane in range(case.num_lanes):
            own = used[:, lane].ravel() - first_unit
            own = own[(own >= 0) & (own < sizes.sum())]
            low, high = order.lane_starts[lane : lane + 2].tolist()
            passes = np.concatenate([order.rows(epoch, low, high) for epoch in range(len(own) // (high - low) + 1)])
            assert np.array_equal(own, passes[: len(own)])
        first_unit += int(sizes.sum())


@given(cases(), st.integers(0, 60), st.data())
def test_any_world_size_resumes_the_same_batches_anywhere(case: Case, num_done: int, data: st.DataObject) -> None:
    world_sizes = [number for number in range(1, case.batch_size + 1) if case.batch_size % number == 0]
    world_size = data.draw(st.sampled_from(world_sizes))
    alone = case.batches(0, num_done + 3)[num_done:]
    shares = [case.batches(num_done, 3, rank, world_size) for rank in range(world_size)]
    assert [[unit for share in together for unit in share] for together in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("num_lanes", [1, 8, 64])
def test_every_batch_keeps_to_the_weights(num_lanes: int) -> None:
    case = Case({"a": np.array([500] * 20), "b": np.array([500] * 20)}, [7, 3], num_lanes, 128)
    of_first = [sum(unit < 10_000 for unit in batch) for batch in case.batches(0, 50)]
    assert set(of_first) <= {89, 90}
    assert abs(sum(of_first) - 0.7 * 50 * 128) <= num_lanes


@given(cases(), st.integers(0, 60), st.data())
def test_the_announced_shards_hold_what_a_batch_reads_first(case: Case, step: int, data: st.DataObject) -> None:
    world_sizes = [number for number in range(1, case.batch_size + 1) if case.batch_size % number == 0]
    world_size = data.draw(st.sampled_from(world_sizes))
    plan = case.plan(data.draw(st.integers(0, world_size - 1)), world_size)
    announced = plan.shards_from(sorted(plan.blocks_at(step * case.batch_size)))
    _, units = plan.batch(step * case.batch_size)
    ends = np.cumsum(np.concatenate(list(case.parts.values())))
    if plan.first_slot % (case.batch_size // case.num_lanes) == 0:
        assert int(np.searchsorted(ends, units[0], side="right")) in announced
    assert len(ends) > announced.max()


def test_the_mixed_order_never_changes_between_releases() -> None:
    case = Case({"a": np.array([7, 5]), "b": np.array([9, 4])}, [2, 1], 2, 6)
    assert case.batches(10, 2) == [[11, 15, 9, 19, 1, 3], [8, 12, 7, 21, 2, 4]]


def test_small_parts_have_few_lanes_and_too_small_ones_are_refused() -> None:
    parts = {"large": np.array([1000] * 500), "small": np.array([500, 500])}
    assert [lanes_that_fit(number, parts) for number in (1, 8, 64)] == [1, 8, 8]
    with pytest.raises(UserError, match="small has 1000 training samples and canonical_nodes is 1024"):
        mixed_orders(parts, 0, 1024)
