"""Verification's numbers against their definitions and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from eval.metrics.verification import (
    Discrimination,
    FoldAccuracy,
    best_threshold,
    held_out_thresholds,
    true_accept_rate,
)
from eval.verification.classifiers import CLASSIFIERS, PairFeatures, combine, judge_pairs
from eval.verification.folds import CONTROL_TOLERANCE, by_score, control
from eval.verification.pair_set import PairSet, make_pair_set
from eval.verification.similarity import cosine, negative_squared_l2


def people_apart(num_people: int = 60, num_folds: int = 10) -> PairSet:
    """Two images of each person, who is in one pair with himself and in one with the next person of the fold."""
    refs, same, fold = [], [], []
    for person in range(num_people):
        group = person % num_folds
        other = person + num_folds if person + num_folds < num_people else group
        refs += [[[0, 2 * person], [0, 2 * person + 1]], [[0, 2 * person], [0, 2 * other + 1]]]
        same += [1, 0]
        fold += [group, group]
    return make_pair_set(np.array(refs), np.array(same), np.array(fold))


PAIRS = people_apart()


def test_perfect_scores_are_always_correct() -> None:
    scored = by_score("run", "score", PAIRS.same + 0.1 * np.arange(len(PAIRS.same)) / len(PAIRS.same), PAIRS)
    assert scored.line.accuracy == FoldAccuracy(1.0, 0.0, 0.0)
    assert scored.line.discrimination == Discrimination(0.0, 1.0, 1.0)
    assert ((scored.margins > 0) == (PAIRS.same == 1)).all()


def test_constant_scores_are_chance() -> None:
    line = by_score("run", "score", np.ones(len(PAIRS.same)), PAIRS).line
    assert line.accuracy.mean == 0.5
    assert line.discrimination == Discrimination(0.5, 0.5, 0.0)


def test_thresholds_come_from_the_other_folds_only() -> None:
    # Each fold is separable at a threshold of its own, 10 times its number: only a leak would get all pairs right.
    fold = np.repeat(np.arange(4), 20)
    same = np.tile([1, 0], 40)
    scores = 10.0 * fold + same
    thresholds = held_out_thresholds(scores, same, fold)
    for number in range(4):
        others = fold != number
        assert set(thresholds[~others]) == {best_threshold(scores[others], same[others])}
    accuracy = FoldAccuracy.of((scores >= thresholds) == (same == 1), fold)
    assert accuracy.mean < 0.76
    assert best_threshold(scores[fold == 2], same[fold == 2]) == 20.5


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_as_good_as_any(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = random.integers(0, 2, 40)
    scores = random.integers(-4, 5, 40) + same  # With ties.
    found = ((scores >= best_threshold(scores, same)) == (same == 1)).mean()
    candidates = np.concatenate([[-np.inf, np.inf], np.arange(-5, 7) - 0.5])
    assert found == max(((scores >= threshold) == (same == 1)).mean() for threshold in candidates)


def test_accuracy_over_folds_and_its_standard_error() -> None:
    is_right = np.array([1, 1, 1, 0, 1, 1, 0, 0], bool)
    accuracy = FoldAccuracy.of(is_right, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    values = [1.0, 0.5, 1.0, 0.0]
    assert accuracy.mean == pytest.approx(np.mean(values))
    assert accuracy.std == pytest.approx(np.std(values, ddof=1))
    assert accuracy.standard_error == pytest.approx(np.std(values, ddof=1) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_rates_are_those_of_scikit_learns_curve(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = random.integers(0, 2, 5000)
    scores = random.normal(size=5000).round(3) + 2 * same
    false_accept, true_accept, _ = roc_curve(same, scores, drop_intermediate=False)
    for rate in (1e-3, 1e-2, 0.1):
        assert true_accept_rate(scores, same, rate) == pytest.approx(true_accept[false_accept <= rate].max())
    nearest = np.abs(false_accept - (1 - true_accept)).argmin()
    expected = (false_accept[nearest] + 1 - true_accept[nearest]) / 2
    assert Discrimination.of(scores, same).equal_error_rate == pytest.approx(expected, abs=1e-3)


def test_scores_of_latents() -> None:
    first, second = np.array([[1, 0], [3, 4], [0, 0]], np.float32), np.array([[0, 2], [6, 8], [1, 1]], np.float32)
    np.testing.assert_allclose(cosine(first, second), [0, 1, 0])
    np.testing.assert_allclose(negative_squared_l2(first, second), [-5, -25, -2])


def test_the_control_stays_near_chance() -> None:
    for line in control(PAIRS, ["LDA", "kNN"], PairFeatures(), seed=0):
        assert abs(line.accuracy.mean - 0.5) < CONTROL_TOLERANCE, line


# Classifiers


def latents_of_people(noise: float, seed: int = 0) -> np.ndarray:
    """Both images of a person near to a point of his own."""
    random = np.random.default_rng(seed)
    people = np.repeat(random.normal(size=(PAIRS.num_images // 2, 12)), 2, axis=0)
    return (people + noise * random.normal(size=people.shape)).astype(np.float32)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("pca", ["none", "before", "after"])
def test_classifiers_tell_separable_pairs_apart(name: str, pca: str) -> None:
    judged = judge_pairs(
        latents_of_people(0.05), PAIRS.pairs, PAIRS.same, PAIRS.fold, name, PairFeatures(pca=pca, num_components=8)
    )
    assert judged.is_right.mean() > 0.93
    assert Discrimination.of(judged.scores, PAIRS.same).area > 0.97


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_fewer_pairs_than_dims(name: str) -> None:
    latents = np.tile(latents_of_people(0.05), 2 * len(PAIRS.pairs))
    latents += np.random.default_rng(1).normal(scale=0.05, size=latents.shape).astype(np.float32)
    judged = judge_pairs(latents[:, : 2 * len(PAIRS.pairs)], PAIRS.pairs, PAIRS.same, PAIRS.fold, name, PairFeatures())
    assert Discrimination.of(judged.scores, PAIRS.same).area > 0.9


def test_classifiers_see_components_of_large_latents_by_default() -> None:
    latents = latents_of_people(0.05)
    wide = np.tile(latents, (1, 600 // latents.shape[1] + 1))
    arguments = (wide, PAIRS.pairs, PAIRS.same, PAIRS.fold, "LDA")
    judged = {
        pca: judge_pairs(*arguments, PairFeatures(pca=pca, num_components=8)) for pca in ("auto", "before", "none")
    }
    np.testing.assert_array_equal(judged["auto"].scores, judged["before"].scores)
    assert not np.array_equal(judged["auto"].scores, judged["none"].scores)
    assert not PairFeatures(pca="auto").reduces_latents(512)


@pytest.mark.parametrize("pca", ["none", "before", "after"])
def test_classifiers_are_not_fitted_on_the_judged_fold(pca: str) -> None:
    latents, features = latents_of_people(0.5), PairFeatures(pca=pca, num_components=4)
    scores = judge_pairs(latents, PAIRS.pairs, PAIRS.same, PAIRS.fold, "LDA", features).scores
    # One fold is moved far away and its labels are swapped: what is said of its own pairs depends on neither the labels
    # nor, pair by pair, on the other pairs of the fold.
    is_moved = PAIRS.fold == 3
    swapped = np.where(is_moved, 1 - PAIRS.same, PAIRS.same)
    again = judge_pairs(latents, PAIRS.pairs, swapped, PAIRS.fold, "LDA", features).scores
    np.testing.assert_allclose(again[is_moved], scores[is_moved], atol=1e-5)
    assert np.abs(again[~is_moved] - scores[~is_moved]).max() > 1e-3
    moved = latents.copy()
    victim = PAIRS.pairs[is_moved][0]
    moved[victim] += 100
    untouched = is_moved & ~np.isin(PAIRS.pairs, victim).any(axis=1)
    again = judge_pairs(moved, PAIRS.pairs, PAIRS.same, PAIRS.fold, "LDA", features).scores
    np.testing.assert_allclose(again[untouched], scores[untouched], atol=1e-5)


def test_features_of_pairs() -> None:
    latents = np.array([[1, 5], [4, 3]], np.float32)
    pairs = np.array([[0, 1], [1, 0]])
    np.testing.assert_array_equal(combine(latents, pairs, "difference"), [[3, 2], [3, 2]])
    np.testing.assert_array_equal(combine(latents, pairs, "concatenation"), [[1, 5, 4, 3], [4, 3, 1, 5]])
