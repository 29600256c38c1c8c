"""What similarities are worth: false match rates, false names a day, likelihood ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from personsearch.core.odds import Odds, false_names_per_day, from_thresholds, rate_for


def odds(**changes: object) -> Odds:
    content = {
        "impostor": [[0.0, 0.5], [0.2, 0.01], [0.4, 0.0001]],
        "evidence": [{"views": 1, "slope": 28.0, "offset": -5.0}, {"views": 5, "slope": 32.0, "offset": -9.5}],
        "pairs": 10_000,
    }
    return Odds.model_validate(content | changes)


def test_nobody_enrolled_and_nobody_passing_give_no_false_name() -> None:
    assert false_names_per_day(0.01, 0, 1000) == 0
    assert false_names_per_day(0.01, 20, 0) == 0


def test_twenty_enrolled_make_twenty_chances_of_a_false_name() -> None:
    assert false_names_per_day(0.001, 1, 1000) == pytest.approx(1.0)
    assert false_names_per_day(0.001, 20, 1000) == pytest.approx(1000 * (1 - 0.999**20))


@given(st.floats(1e-3, 900), st.integers(1, 10_000))
def test_the_rate_is_the_inverse_of_the_false_names(names: float, people: int) -> None:
    assert false_names_per_day(rate_for(names, people, 1000), people, 1000) == pytest.approx(names, rel=1e-6)


@given(st.floats(-1, 1))
def test_the_false_match_rate_falls_with_similarity(similarity: float) -> None:
    known = odds()
    assert 0 < known.false_match_rate(similarity) <= 1
    assert known.false_match_rate(similarity) >= known.false_match_rate(similarity + 0.01)


def test_points_are_met_and_rates_between_them_are_linear_in_the_logarithm() -> None:
    known = odds()
    assert known.false_match_rate(0.2) == pytest.approx(0.01)
    assert known.false_match_rate(0.3) == pytest.approx(0.001)
    assert known.similarity_for(0.001) == pytest.approx(0.3)


def test_no_rate_is_promised_that_the_pairs_do_not_support() -> None:
    known = odds()
    assert known.least_rate == pytest.approx(0.0001)
    assert known.similarity_for(1e-9) == pytest.approx(known.similarity_for(0.0001))
    assert odds(pairs=100).least_rate == pytest.approx(0.001)


def test_the_ratio_is_that_of_the_most_views_that_there_are() -> None:
    known = odds()
    assert known.log_likelihood_ratio(0.5, 1) == known.log_likelihood_ratio(0.5, 4) == pytest.approx(9.0)
    assert known.log_likelihood_ratio(0.5, 12) == pytest.approx(6.5)


@pytest.mark.parametrize(
    "points",
    [[[0.1, 0.5]], [[0.1, 0.5], [0.1, 0.4]], [[0.1, 0.5], [0.2, 0.6]], [[0.1, 0.5], [0.2, 0.0]], [[0, 2], [1, 1]]],
)
def test_points_that_are_no_curve_are_refused(points: list[list[float]]) -> None:
    with pytest.raises(ValidationError):
        odds(impostor=points)


def test_a_bundle_without_odds_uses_its_thresholds() -> None:
    known = from_thresholds(((0.65, 0.001), (0.19, 0.05), (0.34, 0.01)))
    assert known.similarity_for(0.01) == pytest.approx(0.34)
    assert from_thresholds(()).impostor  # not even those
