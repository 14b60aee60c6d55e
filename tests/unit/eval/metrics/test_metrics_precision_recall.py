"""Precision and recall: against the definition, torch-fidelity, and cases with a known answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eval.features.feature_set import FeatureSet, FeatureSets
from eval.metrics import precision_recall as module
from eval.metrics.precision_recall import precision_recall
from eval.reports.parts.distances import distances


def random_features(num: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(num, 6)) + shift).astype(np.float32)


def written_out(points: np.ndarray, centers: np.ndarray, num_neighbors: int) -> float:
    """Share of points that lie in the ball of some center, one pair at a time."""
    inside = 0
    for point in points:
        for i, center in enumerate(centers):
            others = sorted(np.linalg.norm(center - other) for j, other in enumerate(centers) if j != i)
            if np.linalg.norm(point - center) <= others[num_neighbors - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("num_neighbors", [1, 3])
def test_matches_the_definition(num_neighbors):
    generated, real = random_features(30, 0, 1.0), random_features(21, 1)
    result = precision_recall(generated, real, num_neighbors)
    assert result.precision == written_out(generated, real, num_neighbors)
    assert result.recall == written_out(real, generated, num_neighbors)
    assert 0 < result.precision != result.recall > 0


@pytest.mark.parametrize(("num_generated", "num_real"), [(150, 150), (90, 130)])
def test_equals_torch_fidelity_on_the_same_features(num_generated, num_real, monkeypatch):
    metric_prc = pytest.importorskip("torch_fidelity.metric_prc")
    monkeypatch.setattr(module, "_BLOCK_ROWS", 64)
    generated, real = random_features(num_generated, 0, 0.7), random_features(num_real, 1)
    expected = metric_prc.prc_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=1000, verbose=False
    )
    result = precision_recall(generated, real)
    assert result.precision == pytest.approx(expected["precision"], abs=1e-6)
    assert result.recall == pytest.approx(expected["recall"], abs=1e-6)


def test_few_kinds_of_good_images_are_precise_and_recall_little():
    real, few = random_features(300, 0), random_features(300, 1, scale=0.2)
    result = precision_recall(few, real)
    assert result.precision > 0.95
    assert result.recall < 0.3
    # The reverse: images of everything, most of them unlike the real ones.
    swapped = precision_recall(real, few)
    assert (swapped.precision, swapped.recall) == (result.recall, result.precision)


def test_the_same_images_are_all_inside_and_far_ones_never():
    real = random_features(50, 0)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real + 100, real) == (0.0, 0.0)


def feature_sets(features: np.ndarray) -> FeatureSets:
    features_set = FeatureSet.empty(features.shape[1])
    features_set.update(np.arange(len(features)), features)
    return FeatureSets({"efflite0": features_set})


def report(real: np.ndarray) -> Any:
    return SimpleNamespace(reference_features=feature_sets(real), absent_spaces={"inception": "absent"})


def test_the_table_compares_as_many_images_on_either_side():
    generated, real = random_features(60, 0, 0.5), random_features(40, 1)
    measures = distances("samples", feature_sets(generated), report(real), "vae")
    expected = precision_recall(generated[:40], real)
    assert measures["precision_efflite0_samples"].value == expected.precision
    assert measures["recall_efflite0_samples"].value == expected.recall
    assert "of 40 images on either side" in measures["recall_efflite0_samples"].note
    assert measures["precision_inception_samples"].reason == "absent"
    few = distances("samples", feature_sets(generated[:3]), report(real), "vae")
    assert few["recall_efflite0_samples"].value is None
    assert "at least 6 images" in few["recall_efflite0_samples"].reason


def test_too_few_images_have_no_neighbors():
    with pytest.raises(ValueError, match="at least 4 images"):
        precision_recall(random_features(3, 0), random_features(9, 1))
