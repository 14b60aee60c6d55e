"""The promises of the order: exactly once, elastic, resumable, equal, local, and cheap at ten million samples."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shards.base.errors import UserError
from shards.loading.batch_plan import BatchPlan, evaluation_rows
from shards.loading.order import EpochOrder, default_block_shards, shuffled

SHARD_SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**40)
BLOCK_SHARDS = st.none() | st.integers(1, 5)
EPOCHS = st.integers(0, 1000)
WORLD_SIZES = st.integers(1, 6)


def epoch_rows(plan: BatchPlan, epoch: int) -> np.ndarray:
    """All rows that one rank uses in an epoch, in order."""
    starts = range(epoch * plan.epoch_size, (epoch + 1) * plan.epoch_size, plan.epoch_size // plan.steps_per_epoch)
    return np.concatenate([plan.batch(start)[1] for start in starts])


@st.composite
def batch_layouts(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Shard sizes, a global batch size that fits them, and a world size that divides it."""
    sizes = draw(SHARD_SIZES)
    assume(sum(sizes))
    world_size = draw(st.integers(1, min(6, sum(sizes))))
    local_batch_size = draw(st.integers(1, sum(sizes) // world_size))
    return sizes, local_batch_size * world_size, world_size


@given(SHARD_SIZES, SEEDS, BLOCK_SHARDS, EPOCHS)
def test_an_epoch_visits_every_unit_once(sizes: list[int], seed: int, block_shards: int | None, epoch: int) -> None:
    order = EpochOrder(sizes, seed, block_shards)
    rows = order.rows(epoch, 0, order.num_units)
    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(sum(sizes)))


@given(SHARD_SIZES, SEEDS, BLOCK_SHARDS, EPOCHS, st.data())
def test_any_range_is_cut_from_the_same_order(
    sizes: list[int], seed: int, block_shards: int | None, epoch: int, data: st.DataObject
) -> None:
    order = EpochOrder(sizes, seed, block_shards)
    whole = EpochOrder(sizes, seed, block_shards).rows(epoch, 0, order.num_units)
    for _ in range(3):
        start = data.draw(st.integers(0, order.num_units))
        stop = data.draw(st.integers(start, order.num_units))
        assert np.array_equal(order.rows(epoch, start, stop), whole[start:stop])


@given(batch_layouts(), SEEDS, BLOCK_SHARDS, EPOCHS)
def test_every_epoch_of_batches_repeats_nothing_and_drops_less_than_a_batch(
    layout: tuple[list[int], int, int], seed: int, block_shards: int | None, epoch: int
) -> None:
    sizes, global_batch_size, world_size = layout
    plans = [
        BatchPlan(EpochOrder(sizes, seed, block_shards), global_batch_size, rank, world_size)
        for rank in range(world_size)
    ]
    assert len({plan.steps_per_epoch for plan in plans}) == 1
    used = np.concatenate([epoch_rows(plan, epoch) for plan in plans])
    assert len(used) == plans[0].epoch_size
    assert len(np.unique(used)) == len(used)
    assert 0 <= sum(sizes) - len(used) < global_batch_size


@given(batch_layouts(), SEEDS, BLOCK_SHARDS, st.integers(0, 60))
def test_the_world_size_only_cuts_the_batch(
    layout: tuple[list[int], int, int], seed: int, block_shards: int | None, step: int
) -> None:
    sizes, global_batch_size, world_size = layout
    order = EpochOrder(sizes, seed, block_shards)
    epoch, alone = BatchPlan(order, global_batch_size).batch(step * global_batch_size)
    plans = [BatchPlan(order, global_batch_size, rank, world_size) for rank in range(world_size)]
    shares = [plan.batch(step * global_batch_size) for plan in plans]
    assert {share_epoch for share_epoch, _ in shares} == {epoch}
    assert {len(rows) for _, rows in shares} == {global_batch_size // world_size}
    assert np.array_equal(np.concatenate([rows for _, rows in shares]), alone)
    assert [plan.first_slot for plan in plans] == list(range(0, global_batch_size, global_batch_size // world_size))


@given(batch_layouts(), SEEDS, BLOCK_SHARDS, st.integers(0, 25), st.data())
def test_resuming_on_another_world_size_continues_the_sequence(
    layout: tuple[list[int], int, int], seed: int, block_shards: int | None, num_done: int, data: st.DataObject
) -> None:
    sizes, global_batch_size, _ = layout
    divisors = [number for number in range(1, global_batch_size + 1) if global_batch_size % number == 0]
    world_size = data.draw(st.sampled_from(divisors))
    alone = BatchPlan(EpochOrder(sizes, seed, block_shards), global_batch_size)
    from_zero = [alone.batch(step * global_batch_size) for step in range(num_done + 5)]
    # New objects, as in a new process: only the number carries over.
    resumed = [
        BatchPlan(EpochOrder(sizes, seed, block_shards), global_batch_size, rank, world_size)
        for rank in range(world_size)
    ]
    for step in range(num_done, num_done + 5):
        shares = [plan.batch(step * global_batch_size) for plan in resumed]
        assert shares[0][0] == from_zero[step][0]
        assert np.array_equal(np.concatenate([rows for _, rows in shares]), from_zero[step][1])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), SEEDS, st.integers(1, 5), EPOCHS)
def test_a_window_touches_few_shards(sizes: list[int], seed: int, block_shards: int, epoch: int) -> None:
    order = EpochOrder(sizes, seed, block_shards)
    shards = np.searchsorted(np.cumsum(sizes), order.rows(epoch, 0, order.num_units), side="right")
    # Each shard's units lie in one block: the order never returns to the shards of a block.
    first = {int(shard): int(np.flatnonzero(shards == shard)[0]) for shard in np.unique(shards)}
    last = {int(shard): int(np.flatnonzero(shards == shard)[-1]) for shard in first}
    for position in range(len(shards)):
        in_use = [shard for shard in first if first[shard] <= position <= last[shard]]
        assert len(in_use) <= block_shards


def test_blocks_are_of_nearly_equal_numbers_of_shards() -> None:
    order = EpochOrder([10] * 17, seed=0, block_shards=4)
    shards = order.rows(0, 0, 170) // 10
    per_block = [len(set(shards[:30])), order.layout(0).num_blocks]
    assert per_block == [3, 5]
    assert len(set(shards[-30:])) >= 3


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(EpochOrder([50, 50, 20], seed, block_shards).rows(epoch, 0, 120).tolist())
        for seed, epoch, block_shards in itertools.product(range(5), range(5), [1, 3])
    }
    assert len(orders) == 50


def test_dropped_samples_differ_from_epoch_to_epoch() -> None:
    plan = BatchPlan(EpochOrder([10, 10], seed=3), global_batch_size=16)
    dropped = {frozenset(range(20)) - frozenset(epoch_rows(plan, epoch).tolist()) for epoch in range(10)}
    assert len(dropped) > 5


def test_the_shuffle_is_uniform() -> None:
    """Each of the 24 orders of 4 items comes up equally often (chi-square, 23 degrees of freedom, 1e-6 quantile)."""
    num_draws = 12_000
    counts: dict[tuple[int, ...], int] = {}
    for stream in range(num_draws):
        order = tuple(shuffled(4, 0, stream).tolist())
        counts[order] = counts.get(order, 0) + 1
    expected = num_draws / 24
    assert len(counts) == 24
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 73


def test_a_split_of_one_block_is_mixed_over_all_its_shards() -> None:
    """First places of an epoch come from all shards alike: mean row of the first tenth within 4 standard errors."""
    order = EpochOrder([500] * 20, seed=1)
    assert order.layout(0).num_blocks == 1
    first = order.rows(0, 0, 1000)
    assert len(set((first // 500).tolist())) == 20
    assert abs(first.mean() - 5000) < 4 * (10_000 / 12**0.5) / 1000**0.5


def test_the_order_never_changes_between_releases() -> None:
    """Golden values: a checkpoint of today must go on the same way with tomorrow's numpy, on any platform."""
    assert shuffled(10, 0, 0, 0).tolist() == [7, 6, 8, 3, 2, 4, 1, 5, 0, 9]
    golden_order = [2, 3, 21, 6, 0, 5, 23, 1, 4, 22, 24, 20, 7, 9, 19, 12, 18, 11, 16, 10, 14, 15, 13, 8, 17]
    assert EpochOrder([7, 5, 9, 4], 42, 2).rows(3, 0, 25).tolist() == golden_order


def test_threads_may_share_an_order() -> None:
    shared, alone = EpochOrder([30] * 20, 0, 2), EpochOrder([30] * 20, 0, 2)
    ranges = [(epoch, start, start + 45) for epoch in range(4) for start in range(0, 555, 5)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda place: shared.rows(*place), ranges))
    for place, rows in zip(ranges, results, strict=True):
        assert np.array_equal(rows, alone.rows(*place))


@pytest.mark.parametrize("sizes", [[4000] * 250, [1_000_000]])
def test_an_order_keeps_a_few_bytes_of_each_sample(sizes: list[int]) -> None:
    tracemalloc.start()
    order = EpochOrder(sizes, seed=0)
    plan = BatchPlan(order, 256)
    plan.batch(256 * 2_000)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 10 * order.num_units


def test_a_run_of_a_billion_samples_resumes_anywhere() -> None:
    plan = BatchPlan(EpochOrder([10_000] * 100_000, seed=0), 256, 3, 8)
    epoch, rows = plan.batch(256 * 10**10)
    assert epoch == 256 * 10**10 // plan.epoch_size
    assert len(rows) == 32


def test_default_blocks_hold_enough_units() -> None:
    for sizes in ([1000] * 500, [4096] * 50, [5000] * 50 + [7], [200_000] * 3, [1]):
        mean = sum(sizes) / len(sizes)
        assert 65_536 <= default_block_shards(sizes) * mean < 65_536 + mean
    assert EpochOrder([], seed=0).rows(0, 0, 0).tolist() == []


@given(st.integers(0, 300), st.integers(1, 40), WORLD_SIZES)
def test_evaluation_uses_each_sample_once_in_the_same_batches(
    num_samples: int, batch_size: int, world_size: int
) -> None:
    def batches(world_size: int) -> Iterator[list[int]]:
        for rank in range(world_size):
            yield from (rows.tolist() for rows in evaluation_rows(num_samples, batch_size, rank, world_size))

    shares = [len(list(evaluation_rows(num_samples, batch_size, rank, world_size))) for rank in range(world_size)]
    assert shares[0] == max(shares) <= min(shares) + 1  # So that votes and progress bars know the longest share.
    assert list(batches(world_size)) == list(batches(1))
    assert list(itertools.chain.from_iterable(batches(world_size))) == list(range(num_samples))


@given(SHARD_SIZES, st.integers(1, 40), WORLD_SIZES)
def test_machines_share_only_the_shards_at_their_borders_in_evaluation(
    sizes: list[int], batch_size: int, world_size: int
) -> None:
    shard_of_row = np.repeat(np.arange(len(sizes)), sizes)
    touched = 0
    for rank in range(world_size):
        rows = [row for batch in evaluation_rows(sum(sizes), batch_size, rank, world_size) for row in batch]
        touched += len(np.unique(shard_of_row[rows]))
    assert touched <= sum(size > 0 for size in sizes) + world_size - 1


@pytest.mark.parametrize(
    ("global_batch_size", "world_size", "sentence"),
    [
        (64, 6, "cannot be shared equally by 6 processes; use 60 or 66"),
        (4, 6, "use 6."),
        (99, 6, "use 96."),
        (128, 1, "more than the 100 samples; use at most 100"),
        (128, 8, "use at most 96"),
        (0, 2, "at least 2, not 0"),
        (128, 128, "start at most 100"),
    ],
)
def test_numbers_that_do_not_go_together_name_those_that_do(
    global_batch_size: int, world_size: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        BatchPlan(EpochOrder([60, 40], seed=0), global_batch_size, 0, world_size)


@given(st.integers(1, 200), st.integers(1, 250), st.integers(1, 40))
def test_suggested_batch_sizes_are_accepted(num_units: int, global_batch_size: int, world_size: int) -> None:
    order = EpochOrder([num_units], seed=0)
    try:
        BatchPlan(order, global_batch_size, 0, world_size)
    except UserError as error:
        suggested = [
            int(word.strip(".")) for word in str(error).split(" use ")[-1].split() if word.strip(".").isdigit()
        ]
        assume("processes; start" not in str(error))
        assert suggested
        for number in suggested:
            BatchPlan(order, number, 0, world_size)


def test_bad_positions_and_seeds_are_refused() -> None:
    plan = BatchPlan(EpochOrder([100], seed=0), 20)
    for samples_seen in (30, -20):
        with pytest.raises(UserError, match="global batches of 20"):
            plan.batch(samples_seen)
    with pytest.raises(UserError, match="seed"):
        EpochOrder([100], seed=-1)
    with pytest.raises(UserError, match="block_shards"):
        EpochOrder([100], seed=0, block_shards=0)
    with pytest.raises(UserError, match="rank 2 is not among the 2 processes"):
        BatchPlan(EpochOrder([100], seed=0), 20, rank=2, world_size=2)
    with pytest.raises(UserError, match="batch_size"):
        evaluation_rows(10, 0)
