"""The structural prior against the normal distribution of SciPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from features.account.aggregates import HEADROOM, PRIOR_VOLATILITY
from features.account.distance import LIMIT
from features.account.frame import AGGREGATES
from features.account.prior import (
    CLIP,
    TAIL_WIDENING,
    VOLATILITY_ERROR,
    first_passage,
    prior_logit,
)
from features.registry import HORIZONS

Floats = npt.NDArray[np.float64]

CLIPPED = float(math.log(1.0 - CLIP) - math.log(CLIP))


def _prior(headroom: Floats, sigma: Floats, hours: int) -> Floats:
    feature = prior_logit(hours)
    rows = np.full((len(headroom), AGGREGATES), np.nan)
    rows[:, HEADROOM] = headroom
    rows[:, PRIOR_VOLATILITY] = sigma
    out = np.empty(len(rows))
    feature.kernel(rows, out, *feature.params)
    return out


def _expected(d: float, hours: int) -> float:
    """The mixture by adaptive quadrature over the log of the volatility multiplier."""
    error = TAIL_WIDENING * VOLATILITY_ERROR[hours]
    looks, shift = (0.5, 0.0) if hours == 1 else (1.0, 0.5826 / math.sqrt(hours))

    def integrand(x: float) -> float:
        passage = looks * 2.0 * norm.cdf(-(d / math.exp(error * x) + shift))
        return float(norm.pdf(x) * passage)

    return float(quad(integrand, -8.0, 8.0, epsabs=1e-12, limit=200)[0])


@pytest.mark.parametrize("hours", HORIZONS)
@pytest.mark.parametrize("sigma", [0.003, 1.0, 250.0])
def test_prior_is_the_mixture_of_discretely_watched_passages(hours: int, sigma: float) -> None:
    d = np.array([0.05, 0.5, 1.0, 2.0, 3.0, 4.0])
    prior = _prior(sigma * math.sqrt(hours) * d, np.full(len(d), sigma), hours)
    p = 1.0 / (1.0 + np.exp(-prior))
    # Nine nodes: a part in fifty is what the rule promises within four standard deviations.
    np.testing.assert_allclose(p, [_expected(x, hours) for x in d], rtol=0.02)


@given(st.floats(0.0, 30.0), st.floats(1e-3, 1e6))
def test_first_passage_is_twice_the_normal_tail(d: float, sigma: float) -> None:
    headroom = d * sigma
    assert first_passage(headroom, sigma) == pytest.approx(
        2.0 * norm.cdf(-headroom / sigma), rel=1e-12, abs=1e-300
    )


def test_one_look_gives_even_odds_at_the_barrier() -> None:
    (value,) = _prior(np.array([1e-9]), np.array([7.0]), 1)
    assert value == pytest.approx(0.0, abs=1e-8)


def test_clip_limits_of_probability() -> None:
    headroom = np.array([900.0, 950.0, 2.0 * LIMIT, np.inf, 0.0, -0.0, -1.0, -np.inf])
    prior = _prior(headroom, np.ones(len(headroom)), 1)
    np.testing.assert_allclose(prior[:4], -CLIPPED, rtol=1e-12)
    np.testing.assert_allclose(prior[4:], CLIPPED, rtol=1e-7)
    assert np.isfinite(prior).all()
    assert (prior[4:8] == prior[4]).all()


def test_prior_falls_with_headroom_down_to_the_clip() -> None:
    prior = _prior(np.linspace(0.01, 500.0, 2_000), np.ones(2_000), 1)
    inside = prior > -CLIPPED + 1e-6
    assert (np.diff(prior) <= 0.0).all()
    assert (np.diff(prior[inside]) < 0.0).all()
    assert prior[-1] == pytest.approx(-CLIPPED, rel=1e-12)


def test_book_without_volatility_is_called_only_below_zero() -> None:
    prior = _prior(np.array([1e-9, 0.0, -1e-9]), np.zeros(3), 8)
    np.testing.assert_allclose(prior, [-CLIPPED, CLIPPED, CLIPPED], rtol=1e-7)


def test_nan_in_warm_up() -> None:
    assert np.isnan(_prior(np.array([1.0, -1.0, np.nan]), np.array([np.nan, np.nan, 1.0]), 1)).all()


@given(st.floats(0.1, 8.0), st.floats(0.0, 0.5))
def test_longer_horizons_never_lower_the_prior(sigma: float, headroom: float) -> None:
    by_horizon = [_prior(np.array([headroom]), np.array([sigma]), h)[0] for h in HORIZONS]
    assert by_horizon == sorted(by_horizon)
