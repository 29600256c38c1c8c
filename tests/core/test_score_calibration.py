"""Likelihood ratios and tails of distributions that are known."""

import numpy as np
import pytest
from scipy.stats import genpareto

from personsearch.core.score_calibration import ImpostorTail, LogRatio, cllr, fit_log_ratio, fit_tail


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="0 genuine and 3 impostor"):
        fit_log_ratio(np.zeros(0), np.zeros(3))
    with pytest.raises(ValueError, match="20 different scores"):
        fit_tail(np.zeros(0))
    with pytest.raises(ValueError, match="20 different scores"):
        fit_tail(np.ones(1000))


def test_two_normal_distributions_have_the_known_ratio() -> None:
    # N(1, 1) against N(-1, 1): log ratio 2 x, whatever the numbers of pairs
    rng = np.random.default_rng(0)
    for genuine, impostor in ((40_000, 40_000), (4_000, 200_000)):
        fitted = fit_log_ratio(rng.normal(1, 1, genuine), rng.normal(-1, 1, impostor))
        assert fitted.slope == pytest.approx(2, abs=0.1)
        assert fitted.even == pytest.approx(0, abs=0.05)


def test_scores_that_do_not_overlap_have_a_finite_ratio() -> None:
    fitted = fit_log_ratio(np.array([0.9, 0.8, 0.7]), np.array([0.1, 0.2, 0.0, 0.1]))
    assert 0 < fitted.slope < 1000
    assert 0.2 < fitted.even < 0.7
    assert np.isnan(LogRatio(0.0, 0.0).even)


def test_cllr_by_hand() -> None:
    assert cllr(np.zeros(3), np.zeros(2)) == pytest.approx(1.0)
    assert cllr(np.full(2, 50.0), np.full(2, -50.0)) == pytest.approx(0.0, abs=1e-9)
    assert cllr(np.array([np.log(3)]), np.array([-np.log(3)])) == pytest.approx(np.log2(4 / 3))
    assert cllr(np.full(2, -5.0), np.full(2, 5.0)) > 1


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_a_known_tail_is_found(shape: float) -> None:
    scores = genpareto.rvs(shape, loc=0.2, scale=0.1, size=100_000, random_state=np.random.default_rng(1))
    tail = fit_tail(scores)
    assert tail.shape == pytest.approx(shape, abs=0.06)
    assert tail.share == pytest.approx(0.05, abs=1e-4)
    for rate in (0.05, 1e-2, 1e-3, 1e-4):
        expected = genpareto.isf(rate, shape, loc=0.2, scale=0.1)
        assert tail.threshold(rate) == pytest.approx(expected, rel=0.06)
        assert tail.fmr(tail.threshold(rate)) == pytest.approx(rate)


def test_the_tail_promises_nothing_that_the_pairs_cannot_support() -> None:
    tail = ImpostorTail(start=0.5, share=0.05, scale=0.1, shape=-0.5, pairs=3000)
    assert tail.least == pytest.approx(0.001)
    assert tail.fmr(0.99) == pytest.approx(0.001)  # beyond the distribution's end, 0.7
    assert tail.fmr(0.1) == 0.05
    for rate in (0.0001, 0.2):
        with pytest.raises(ValueError, match=r"3000 pairs can speak of rates from 1\.0e-03 to 0\.05"):
            tail.threshold(rate)
