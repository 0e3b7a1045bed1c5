"""The structural prior against the normal distribution of SciPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm

from features.account import moments as moment
from features.account.distance import LIMIT
from features.account.prior import CLIP, first_passage, prior_logit
from features.registry import HORIZONS

Floats = npt.NDArray[np.float64]

CLIPPED = float(math.log(1.0 - CLIP) - math.log(CLIP))


def _prior(headroom: Floats, sigma: Floats, hours: int) -> Floats:
    feature = prior_logit(hours)
    rows = np.full((len(headroom), moment.width(6, 0)), np.nan)
    rows[:, moment.HEADROOM] = headroom
    rows[:, moment.PRIOR_VOLATILITY] = sigma
    out = np.empty(len(rows))
    feature.kernel(rows, out, *feature.params)
    return out


@pytest.mark.parametrize("hours", HORIZONS)
def test_prior_is_twice_the_normal_tail(hours: int) -> None:
    sigma = np.array([0.003, 1.0, 250.0])[:, None]
    d = np.linspace(1e-3, 5.9, 200)
    headroom = sigma * math.sqrt(hours) * d
    prior = _prior(headroom.ravel(), np.broadcast_to(sigma, headroom.shape).ravel(), hours)
    expected = np.tile(logit(2.0 * norm.cdf(-d)), 3)
    np.testing.assert_allclose(prior, expected, rtol=1e-10, atol=1e-10)


@given(st.floats(0.0, 30.0), st.floats(1e-3, 1e6))
def test_first_passage_is_twice_the_normal_tail(d: float, sigma: float) -> None:
    headroom = d * sigma
    assert first_passage(headroom, sigma) == pytest.approx(
        2.0 * norm.cdf(-headroom / sigma), rel=1e-12, abs=1e-300
    )


def test_worked_number() -> None:
    # Headroom of 1.96 standard deviations over 4 hours: p = 2 · 0.0249979 = 0.0499958.
    (value,) = _prior(np.array([1.96 * 2.0 * 7.0]), np.array([7.0]), 4)
    assert 1.0 / (1.0 + math.exp(-value)) == pytest.approx(0.0499957902964, abs=1e-12)


def test_clip_limits_of_probability() -> None:
    headroom = np.array([6.2, 50.0, 2.0 * LIMIT, np.inf, 0.0, -0.0, -1.0, -np.inf, 1e-12])
    prior = _prior(headroom, np.ones(len(headroom)), 1)
    np.testing.assert_allclose(prior[:4], -CLIPPED, rtol=1e-12)
    np.testing.assert_allclose(prior[4:], CLIPPED, rtol=1e-7)
    assert np.isfinite(prior).all()
    assert (prior[4:8] == prior[4]).all()


def test_clip_begins_where_the_tail_meets_it() -> None:
    edge = float(-norm.ppf(CLIP / 2.0))
    inside, outside = _prior(np.array([edge - 1e-3, edge + 1e-3]), np.ones(2), 1)
    assert inside > outside
    assert outside == pytest.approx(-CLIPPED, rel=1e-12)


def test_book_without_volatility_is_called_only_below_zero() -> None:
    prior = _prior(np.array([1e-9, 0.0, -1e-9]), np.zeros(3), 8)
    np.testing.assert_allclose(prior, [-CLIPPED, CLIPPED, CLIPPED], rtol=1e-7)


def test_nan_in_warm_up() -> None:
    assert np.isnan(_prior(np.array([1.0, -1.0, np.nan]), np.array([np.nan, np.nan, 1.0]), 1)).all()


@given(st.floats(0.01, 8.0), st.floats(0.0, 5.0))
def test_longer_horizons_never_lower_the_prior(sigma: float, headroom: float) -> None:
    by_horizon = [_prior(np.array([headroom]), np.array([sigma]), h)[0] for h in HORIZONS]
    assert by_horizon == sorted(by_horizon)
