"""Error rates of verification against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegen.reporting.pair_metrics import area_under_roc, equal_error_rate, roc

# Few different scores, so that ties are common.
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)


@given(PAIRS)
def test_the_area_is_the_probability_of_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    scores, same = np.array(pairs).T
    positive, negative = scores[same == 1][:, None], scores[same == 0]
    expected = (positive > negative).mean() + 0.5 * (positive == negative).mean()
    assert area_under_roc(scores, same) == pytest.approx(expected)
    assert area_under_roc(-scores, same) == pytest.approx(1 - expected)


@given(PAIRS)
def test_the_equal_error_rate_lies_on_the_curve(pairs: list[tuple[int, bool]]) -> None:
    scores, same = np.array(pairs).T
    eer = equal_error_rate(scores, same)
    false_accept, true_accept = roc(scores, same)
    # Where the false accept rate is the EER, so is the false reject rate; the curve is vertical in places.
    below = np.max(true_accept[false_accept <= eer + 1e-12])
    above = np.min(true_accept[false_accept >= eer - 1e-12])
    assert min(below, above) - 1e-9 <= 1 - eer <= max(below, above) + 1e-9


@pytest.mark.parametrize(
    ("scores", "same", "eer", "auc"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 0.0, 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 1.0, 0.0),
        ([0, 0, 0, 0], [1, 0, 1, 0], 0.5, 0.5),  # A constant score is chance, in whatever order the pairs stand.
        ([0, 0, 0, 0], [1, 1, 0, 0], 0.5, 0.5),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.5, 0.75),
        ([5, 4, 3, 2, 1, 0], [1, 1, 0, 1, 0, 0], 1 / 3, 8 / 9),
    ],
)
def test_known_curves(scores: list[float], same: list[int], eer: float, auc: float) -> None:
    assert equal_error_rate(np.array(scores), np.array(same)) == pytest.approx(eer)
    assert area_under_roc(np.array(scores), np.array(same)) == pytest.approx(auc)


def test_a_score_that_is_not_finite_gives_no_number() -> None:
    scores, same = np.array([0.1, np.nan, 0.3]), np.array([1, 0, 1])
    assert np.isnan([area_under_roc(scores, same), equal_error_rate(scores, same)]).all()
