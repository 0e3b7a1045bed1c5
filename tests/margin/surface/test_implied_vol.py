from __future__ import annotations

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813
from hypothesis import given, strategies as st

from margin.pricing.black76 import black76_price
from margin.surface.implied_vol import implied_vol
from market.core.errors import DataError


@given(
    vol=st.floats(0.01, 4.0),
    tau=st.floats(1 / 8_760, 3.0),
    depth=st.floats(-4.0, 4.0),
    rate=st.floats(-0.05, 0.2),
    call=st.booleans(),
)
def test_the_vol_of_a_price_comes_back(
    vol: float, tau: float, depth: float, rate: float, call: bool
) -> None:
    """Strikes up to four deviations from the forward, on either side of the money."""
    forward = 63_000.0
    strike = forward * math.exp(depth * vol * math.sqrt(tau))
    price = float(black76_price(forward, strike, tau, vol, call, rate))
    found = float(implied_vol(price, forward, strike, tau, call, rate))
    # A digit of the price is a digit of vol divided by vega.
    bumped = float(black76_price(forward, strike, tau, vol * 1.0001, call, rate))
    vega = (bumped - price) / (vol * 1e-4)
    assert abs(found - vol) <= 1e-11 * vol + 1e-15 * (price + forward) / vega


@given(
    vol=st.floats(0.05, 2.0),
    tau=st.floats(1 / 365, 2.0),
    depth=st.floats(0.0, 3.0),
    call=st.booleans(),
)
def test_quantlib_finds_the_same_vol(vol: float, tau: float, depth: float, call: bool) -> None:
    side = 1.0 if call else -1.0
    forward = 2_000.0
    strike = forward * math.exp(side * depth * vol * math.sqrt(tau))
    kind = ql.Option.Call if call else ql.Option.Put
    price = ql.blackFormula(kind, strike, forward, vol * math.sqrt(tau))
    theirs = ql.blackFormulaImpliedStdDev(
        kind, strike, forward, price, 1.0, 0.0, vol * math.sqrt(tau), 1e-14, 1_000
    ) / math.sqrt(tau)
    assert float(implied_vol(price, forward, strike, tau, call)) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_a_price_of_no_vol_is_nan(price: float, call: bool) -> None:
    assert math.isnan(float(implied_vol(price, 100.0, 110.0, 0.5, call)))


def test_prices_at_the_intrinsic_value_and_at_the_bound_are_nan() -> None:
    forward, strike = np.array([100.0, 100.0, 100.0]), np.array([80.0, 120.0, 80.0])
    price, call = np.array([20.0, 20.0, 100.0]), np.array([True, False, True])
    assert np.isnan(implied_vol(price, forward, strike, 1.0, call)).all()
    assert np.isfinite(
        implied_vol(price + np.array([1.0, 1.0, -1.0]), forward, strike, 1.0, call)
    ).all()


def test_no_time_left_is_nan() -> None:
    assert np.isnan(implied_vol(5.0, 100.0, 100.0, np.array([0.0, -1.0, np.nan]), True)).all()


def test_shapes_broadcast() -> None:
    strikes = np.array([90.0, 100.0, 110.0])
    prices = black76_price(100.0, strikes, np.array([[0.1], [0.5]]), 0.4, True)
    found = implied_vol(prices, 100.0, strikes, np.array([[0.1], [0.5]]), True)
    np.testing.assert_allclose(found, np.full((2, 3), 0.4), rtol=1e-12)


@pytest.mark.parametrize(("forward", "strike"), [(0.0, 1.0), (1.0, -1.0), (math.inf, 1.0)])
def test_an_impossible_forward_or_strike_is_refused(forward: float, strike: float) -> None:
    with pytest.raises(DataError, match="implies no vol; expected a price above 0"):
        implied_vol(0.1, forward, strike, 1.0, True)
