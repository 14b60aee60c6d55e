"""KL, ELBO and bits per dim: golden values and the noise of posterior draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from eval.metrics.elbo import ElboSums, bits_per_dim, gaussian_log_likelihood, posterior_noise
from eval.metrics.latent_usage import LatentStatistics


@pytest.mark.parametrize(("mu", "logvar", "expected"), [(0, 0, 0.0), (1, 0, 5.0), (1, 1, 8.591409142295225)])
def test_kl_of_ten_dims(mu, logvar, expected):
    statistics = LatentStatistics.empty(10)
    statistics.update(torch.full((3, 10), float(mu)), torch.full((3, 10), float(logvar)))
    kl = statistics.usage().kl
    assert kl is not None
    assert kl.sum() == pytest.approx(expected, abs=1e-12)


def test_log_likelihood_matches_scipy():
    random = np.random.default_rng(0)
    images, means = random.normal(size=(4, 12)), random.normal(size=(4, 12))
    expected = stats.norm.logpdf(images, means, math.sqrt(0.3)).sum(axis=1)
    np.testing.assert_allclose(gaussian_log_likelihood(((images - means) ** 2).sum(axis=1), 12, 0.3), expected)


def test_elbo_is_likelihood_minus_kl_over_all_ranks():
    first, second = ElboSums(12), ElboSums(12)
    first.update(np.array([1.0, 3.0]), np.array([4.0, 6.0]))
    second.update(np.array([5.0]), np.array([2.0]))
    expected = gaussian_log_likelihood(np.array([4.0, 6.0, 2.0]), 12, 0.5).mean() - 3.0
    assert first.merge(second).elbo(0.5) == pytest.approx(expected)


def test_best_variance_is_where_the_elbo_peaks():
    sums = ElboSums(12)
    sums.update(np.array([1.0, 3.0]), np.array([4.0, 6.0]))
    best = sums.elbo(sums.best_variance)
    assert best > sums.elbo(sums.best_variance * 1.01)
    assert best > sums.elbo(sums.best_variance * 0.99)


def test_bits_per_dim_of_a_uniform_density_is_eight():
    """A density of 1/2 over [-1, 1] is one of 255 steps, so the midpoint rule gives log2(255)."""
    assert bits_per_dim(elbo=-100 * math.log(2), num_values=100) == pytest.approx(math.log2(255))


def test_bits_per_dim_matches_the_exact_mass_of_a_pixel():
    variance, value = 0.05, 0.1
    std, half_step = math.sqrt(variance), 1 / 255
    mass = stats.norm.cdf(value + half_step, 0, std) - stats.norm.cdf(value - half_step, 0, std)
    log_density = float(gaussian_log_likelihood(np.array([value**2]), 1, variance)[0])
    assert bits_per_dim(log_density, 1) == pytest.approx(-math.log2(mass), abs=1e-4)


def test_posterior_noise_belongs_to_its_row_and_is_standard_normal():
    noise = posterior_noise(7, np.arange(500), 40)
    torch.testing.assert_close(posterior_noise(7, np.array([3, 499]), 40), noise[[3, 499]])
    assert not torch.equal(posterior_noise(8, np.arange(500), 40), noise)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
