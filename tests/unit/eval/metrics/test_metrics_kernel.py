"""Kernel distance: against the definition written out, and against torch-fidelity on the same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.metrics.kernel import kernel_distance


def random_features(num: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(num, 24)) + shift).astype(np.float32)


def test_one_subset_of_everything_matches_the_definition():
    first, second = random_features(9, 0).astype(float), random_features(9, 1, 0.5).astype(float)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 24 + 1) ** 3

    within = sum(kernel(x, y) for s in (first, second) for i, x in enumerate(s) for j, y in enumerate(s) if i != j)
    between = sum(kernel(x, y) for x in first for y in second)
    result = kernel_distance(first, second)
    assert result.mean == pytest.approx(within / 72 - 2 * between / 81)
    assert (result.std, result.subset_size) == (0, 9)


@pytest.mark.parametrize(("num_first", "num_second", "size"), [(60, 45, 30), (1100, 50, 50), (40, 40, 20)])
def test_equals_torch_fidelity_on_the_same_features(num_first, num_second, size):
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
    first, second = random_features(num_first, 0), random_features(num_second, 1, 0.3)
    expected = metric_kid.kid_features_to_metric(
        torch.from_numpy(first),
        torch.from_numpy(second),
        kid_subsets=13,
        kid_subset_size=size,
        rng_seed=2020,
        verbose=False,
    )
    result = kernel_distance(first, second, num_subsets=13, max_subset_size=size)
    assert result.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert result.std == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-3)


def test_two_halves_of_one_distribution_are_near_zero_and_a_shift_is_not():
    same = kernel_distance(random_features(400, 0), random_features(400, 1))
    shifted = kernel_distance(random_features(400, 0), random_features(400, 1, 1.0))
    assert abs(same.mean) < 0.02
    assert shifted.mean > 1


def test_the_error_is_the_deviation_over_fresh_images():
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return random_features(80, 2 * seed), random_features(60, 2 * seed + 1, 0.7)

    fresh = np.std([kernel_distance(*draw(seed)).mean for seed in range(60)])
    assert kernel_distance(*draw(100)).error == pytest.approx(fresh, rel=0.4)


def test_pairs_are_resampled_together():
    faces = random_features(80, 0)
    noise = 0.01 * random_features(80, 1)
    paired, apart = (kernel_distance(faces, faces + noise, is_paired=pairs).error for pairs in (True, False))
    assert paired < apart / 5


def test_a_resample_of_two_images_can_lack_a_pair():
    assert np.isfinite(kernel_distance(random_features(2, 0), random_features(2, 1)).error)


def test_one_image_has_no_distance():
    with pytest.raises(ValueError, match="at least 2 images"):
        kernel_distance(random_features(1, 0), random_features(5, 1))
