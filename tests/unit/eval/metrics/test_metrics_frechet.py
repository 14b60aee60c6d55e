"""Fréchet distance: golden values, merging, and precision."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.frechet import (
    FeatureStatistics,
    FrechetDistance,
    frechet_distance,
    frechet_with_error,
    gaussian_frechet_distance,
)


def statistics_of(features: np.ndarray) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(features.shape[1])
    statistics.update(features)
    return statistics


@pytest.mark.parametrize("dim", [64, pytest.param(2048, marks=pytest.mark.slow)])
def test_means_zero_and_one_with_identity_covariance_give_the_number_of_dims(dim):
    identity = np.eye(dim)
    assert gaussian_frechet_distance(np.zeros(dim), identity, np.ones(dim), identity) == pytest.approx(dim, abs=1e-8)


def test_diagonal_gaussians_match_the_closed_form():
    std1, std2 = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
    expected = 0.25 + ((std1 - std2) ** 2).sum()
    mean2 = np.array([0.5, 0.0, 0.0])
    assert gaussian_frechet_distance(np.zeros(3), np.diag(std1**2), mean2, np.diag(std2**2)) == pytest.approx(expected)


def test_identical_sets_have_distance_zero_even_with_fewer_images_than_dims():
    features = np.random.default_rng(0).normal(size=(20, 64))
    assert frechet_distance(statistics_of(features), statistics_of(features)) == pytest.approx(0, abs=1e-6)


def test_distance_is_symmetric_and_grows_with_the_shift():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(200, 16)), random.normal(size=(300, 16)) @ random.normal(size=(16, 16))
    forth = frechet_distance(statistics_of(first), statistics_of(second))
    assert forth == pytest.approx(frechet_distance(statistics_of(second), statistics_of(first)))
    assert frechet_distance(statistics_of(first), statistics_of(second + 3)) > forth


def test_batches_and_ranks_merge_to_the_covariance_of_all():
    features = np.random.default_rng(0).normal(size=(101, 8)) + 5
    first, second = FeatureStatistics.empty(8), FeatureStatistics.empty(8)
    for position, batch in enumerate(np.array_split(features, 7)):
        (first if position % 2 else second).update(batch)
    merged = first.merge(second)
    assert merged.count == 101
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(features, rowvar=False), atol=1e-12)


def test_sums_keep_the_small_covariance_of_float32_features_far_from_zero():
    features = (1000 + 0.1 * np.random.default_rng(0).normal(size=(5000, 2))).astype(np.float32)
    expected = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(statistics_of(features).covariance, expected, rtol=1e-4, atol=1e-7)


def with_error(first: np.ndarray, second: np.ndarray, is_paired: bool = False) -> FrechetDistance:
    return frechet_with_error(statistics_of(first), statistics_of(second), (first, second), is_paired)


@pytest.mark.parametrize(("num", "dim"), [(400, 16), (90, 80), (50, 80)])
def test_the_error_is_the_deviation_over_fresh_images(num, dim):
    random = np.random.default_rng(0)
    mixing = random.normal(size=(dim, dim)) / np.arange(1, dim + 1)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return random.normal(size=(num, dim)) @ mixing.T, random.normal(size=(num, dim)) @ mixing.T * 0.8 + 0.05

    drawn = [draw() for _ in range(80)]
    fresh = np.std([frechet_distance(*map(statistics_of, pair)) for pair in drawn])
    found = [with_error(*pair) for pair in drawn[:20]]
    assert np.mean([one.error for one in found]) == pytest.approx(fresh, rel=0.35)
    assert found[0].value == pytest.approx(frechet_distance(*map(statistics_of, drawn[0])), rel=1e-6)


def test_pairs_are_resampled_together():
    random = np.random.default_rng(0)
    faces = random.normal(size=(200, 16))
    noisy = faces + 0.01 * random.normal(size=faces.shape)
    assert with_error(faces, noisy, is_paired=True).error < with_error(faces, noisy).error / 5


def test_equal_images_have_a_distance_and_an_error():
    random = np.random.default_rng(0)
    found = with_error(np.ones((30, 4)), random.normal(size=(30, 4)))
    assert found.value > 0 and np.isfinite(found.error) and found.error > 0


def test_one_image_has_no_distance():
    features = np.ones((1, 3))
    with pytest.raises(ValueError, match="at least 2 images"):
        frechet_distance(statistics_of(features), statistics_of(features))
