"""Density and coverage: against the definition, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import precision_recall
from eval.metrics.density_coverage import density_coverage


def random_features(num: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(num, 6)) + shift).astype(np.float32)


def written_out(generated: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float]:
    """The paper's two formulas, one pair at a time."""
    radii = [sorted(np.linalg.norm(real - center, axis=1))[k] for center in real]
    inside = np.array(
        [
            [np.linalg.norm(point - center) < radius for center, radius in zip(real, radii, strict=True)]
            for point in generated
        ]
    )
    return inside.sum() / (k * len(generated)), inside.any(axis=0).mean()


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("num_generated", "num_real"), [(30, 21), (12, 40)])
def test_matches_the_definition(k: int, num_generated: int, num_real: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "_BLOCK_ROWS", 7)
    generated, real = random_features(num_generated, 0, 0.5), random_features(num_real, 1)
    assert density_coverage(generated, real, k) == pytest.approx(written_out(generated, real, k))


@pytest.mark.parametrize("k", [3, 5])
def test_numbers_are_those_of_the_authors_package(k: int) -> None:
    prdc = pytest.importorskip("prdc", reason="prdc, an optional package, is not installed")
    generated, real = random_features(200, 0, 0.3, 0.8), random_features(150, 1)
    expected = prdc.compute_prdc(real, generated, k)
    found = (
        density_coverage(generated, real, k)._asdict() | precision_recall.precision_recall(generated, real, k)._asdict()
    )
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)
    assert 0 < found["recall"] < found["precision"] < 1 and 0 < found["coverage"] < 1


def test_real_images_crowded_images_and_far_ones() -> None:
    real = random_features(2000, 0)
    density, coverage = density_coverage(random_features(2000, 1), real)
    assert density == pytest.approx(1, abs=0.05)
    # E[coverage] of the same distribution is 1 - (1/2)^k (the paper's equation 13).
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)
    density, coverage = density_coverage(random_features(2000, 1, scale=0.3), real)
    assert density > 1.1 and coverage < 0.7
    assert density_coverage(real + 100, real) == (0, 0)


def test_too_few_images() -> None:
    with pytest.raises(ValueError, match="at least 6 real ones"):
        density_coverage(random_features(9, 0), random_features(5, 1))
    with pytest.raises(ValueError, match="a generated image"):
        density_coverage(random_features(0, 0), random_features(9, 1))
