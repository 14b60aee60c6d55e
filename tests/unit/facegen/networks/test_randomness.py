"""Draws belong to slots of the global batch, whoever computes them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facegen.randomness import SlotRandom, derive_seed, seed_global_generators

BATCH = 24


def draw(kind: str, slots: slice, *, seed: int = 0, images_seen: int = 0, name: str = "x") -> torch.Tensor:
    return getattr(SlotRandom(seed, images_seen, slots, BATCH), kind)(name, 3)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["normal", "uniform"]), st.lists(st.integers(0, BATCH), max_size=5))
def test_any_split_of_the_batch_gives_the_same_rows(kind: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), BATCH]
    parts = [draw(kind, slice(start, stop)) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    assert torch.equal(torch.cat(parts), draw(kind, slice(0, BATCH)))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("other", [{"seed": 1}, {"images_seen": BATCH}, {"name": "y"}])
def test_seed_step_and_name_distinguish_draws(kind: str, other: dict) -> None:
    first, second = draw(kind, slice(0, BATCH)), draw(kind, slice(0, BATCH), **other)
    assert not torch.isin(second, first).any()


def test_no_two_slots_draw_the_same() -> None:
    assert len(draw("normal", slice(0, BATCH)).unique()) == 3 * BATCH


def test_a_draw_can_be_repeated_whatever_was_drawn_in_between() -> None:
    random = SlotRandom(0, 0, slice(0, BATCH), BATCH)
    first = random.normal("x", 3)
    random.uniform("y")
    torch.manual_seed(5)
    assert torch.equal(random.normal("x", 3), first)


def test_moments() -> None:
    random = SlotRandom(0, 0, slice(0, 100_000), 100_000)
    normal, uniform = random.normal("a"), random.uniform("b")
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.var().item() == pytest.approx(1, abs=0.02)
    assert normal.pow(4).mean().item() == pytest.approx(3, abs=0.15)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.003)


def test_derived_seeds_fit_a_generator_and_keep_their_values() -> None:
    seeds = {derive_seed(seed, "sample", index) for seed in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert min(seeds) >= 0 and max(seeds) < 2**63
    # A change here would change the noise of every run, so that no old run could resume or be sampled as before.
    assert derive_seed(0, "weights") == 7388263408636359099
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_the_global_generator_is_seeded_as_torch_does() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    seed_global_generators(7, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)
