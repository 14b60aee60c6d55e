"""Latent usage: against numpy and scipy on all values at once, whatever the batches and ranks were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from eval.metrics.latent_usage import GRID, LatentStatistics, effective_dims


def accumulate(mu: np.ndarray, logvar: np.ndarray | None, num_ranks: int) -> LatentStatistics:
    ranks = [LatentStatistics.empty(mu.shape[1]) for _ in range(num_ranks)]
    for number, rows in enumerate(np.array_split(np.arange(len(mu)), 7)):
        part = None if logvar is None else torch.from_numpy(logvar[rows])
        ranks[number % num_ranks].update(torch.from_numpy(mu[rows]), part)
    merged = ranks[0]
    for other in ranks[1:]:
        merged = merged.merge(other)
    return merged


@pytest.fixture
def latents() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    mixing = np.array([[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 0.05, 0], [0, 0, 0, 3.0]])
    mu = random.normal(size=(503, 4)) @ mixing + np.array([0, 100, 0, -1])
    return mu, random.normal(-1, 0.3, size=(503, 4))


@pytest.mark.parametrize("num_ranks", [1, 2, 5, 9])
def test_moments_equal_numpy_for_any_number_of_ranks(latents, num_ranks):
    mu, logvar = latents
    usage = accumulate(mu, logvar, num_ranks).usage()
    np.testing.assert_allclose(usage.mean, mu.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(usage.variance, np.var(mu, axis=0, ddof=0), rtol=1e-10)
    active = mu[:, [0, 1, 3]]
    np.testing.assert_allclose(usage.correlation, np.corrcoef(active, rowvar=False), atol=1e-9)
    assert usage.num_active == 3
    assert usage.order.tolist() == [3, 0, 1, 2] or usage.order.tolist() == [3, 1, 0, 2]


def test_ks_of_a_deterministic_encoder_matches_scipy_up_to_the_grid(latents):
    mu, _ = latents
    usage = accumulate(mu, None, 2).usage()
    expected = [stats.kstest(mu[:, dim], "norm").statistic for dim in range(4)]
    np.testing.assert_allclose(usage.ks, expected, atol=0.4 * (GRID[1] - GRID[0]) + 1e-2)
    assert usage.kl is None and usage.num_with_kl is None


def test_a_dim_can_vary_without_kl_and_have_kl_without_varying():
    mu = np.array([[0.2, 0, 0], [-0.2, 0, 0]] * 7)
    usage = accumulate(mu, np.log([[1.0, 0.1, 1.0]] * 14), 1).usage()
    assert usage.kl is not None and usage.kl[0] == pytest.approx(0.02)
    assert (usage.num_active, usage.num_with_kl) == (1, 1)
    assert usage.variance[0] > 0.01 and usage.kl[1] > 0.05


def test_a_collapsed_dim_matches_the_prior_exactly_and_costs_nothing():
    usage = accumulate(np.zeros((50, 3)), np.zeros((50, 3)), 2).usage()
    assert usage.kl is not None
    np.testing.assert_allclose(usage.ks, 0, atol=1e-12)
    np.testing.assert_allclose(usage.kl, 0, atol=1e-12)
    assert (usage.num_active, usage.effective_dims, usage.off_diagonal.size) == (0, 0, 0)


def test_aggregated_posterior_is_the_mixture_of_all_posteriors(latents):
    mu, logvar = latents
    usage = accumulate(mu, logvar, 3).usage()
    point = 130
    expected = stats.norm.cdf(GRID[point], mu[:, 0], np.exp(0.5 * logvar[:, 0])).mean()
    assert usage.cdf[0, point] == pytest.approx(expected, abs=1e-10)


def test_effective_dims():
    assert effective_dims(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_dims(np.array([2.0, 0.0, 0.0])) == pytest.approx(1)
    assert 1 < effective_dims(np.array([1.0, 0.1])) < 2
