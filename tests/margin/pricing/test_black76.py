"""Black-76 against QuantLib, and the laws that every option price keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813
from hypothesis import given, settings, strategies as st

from margin.pricing.black76 import black76_greeks, black76_price, price
from market.core.errors import DataError

forwards = st.floats(0.01, 1e6)
ratios = st.floats(0.02, 50.0)
taus = st.floats(1e-6, 5.0)
vols = st.floats(0.01, 5.0)
sides = st.booleans()


def grid() -> tuple[np.ndarray, ...]:
    """Random options, a third of them extreme in one way or another."""
    rng = np.random.default_rng(1)
    n = 3_000
    forward = np.exp(rng.uniform(-3, 12, n))
    strike = forward * np.exp(rng.normal(0, 1, n) * rng.choice([0.01, 0.3, 4.0], n))
    tau = rng.choice([1e-6, 0.002, 0.1, 1.0, 5.0], n) * rng.uniform(0.5, 1.5, n)
    vol = rng.choice([1e-3, 0.2, 0.8, 4.0], n) * rng.uniform(0.5, 1.5, n)
    return forward, strike, tau, vol, rng.random(n) < 0.5, rng.uniform(-0.02, 0.2, n)


def test_prices_are_quantlibs() -> None:
    options = grid()
    ours = black76_price(*options)
    for mine, forward, strike, tau, vol, call, rate in zip(ours, *options, strict=True):
        kind = ql.Option.Call if call else ql.Option.Put
        discount = math.exp(-rate * tau)
        theirs = ql.blackFormula(
            kind, float(strike), float(forward), float(vol * math.sqrt(tau)), discount
        )
        assert mine == pytest.approx(theirs, rel=1e-12, abs=4e-15 * max(forward, strike))


def test_greeks_are_quantlibs() -> None:
    options = grid()
    ours = black76_greeks(*options)
    for i, (forward, strike, tau, vol, call, rate) in enumerate(zip(*options, strict=True)):
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if call else ql.Option.Put, float(strike))
        discount = math.exp(-rate * tau)
        theirs = ql.BlackCalculator(payoff, float(forward), float(vol * math.sqrt(tau)), discount)
        scale = max(forward, strike)
        assert ours.delta[i] == pytest.approx(theirs.deltaForward(), rel=1e-11, abs=1e-14)
        assert ours.gamma[i] * forward == pytest.approx(
            theirs.gammaForward() * forward, rel=1e-9, abs=1e-12
        )
        assert ours.vega[i] == pytest.approx(theirs.vega(tau), rel=1e-9, abs=1e-13 * scale)


@given(forwards, ratios, taus, vols)
@settings(deadline=None)
def test_put_call_parity(forward: float, ratio: float, tau: float, vol: float) -> None:
    strike = forward * ratio
    call, put = black76_price(forward, strike, tau, vol, [True, False], 0.03)
    parity = math.exp(-0.03 * tau) * (forward - strike)
    assert call - put == pytest.approx(parity, rel=1e-12, abs=1e-14 * (forward + strike))


@given(forwards, ratios, taus, vols, st.floats(1.0001, 3.0), sides)
@settings(deadline=None)
def test_more_vol_is_never_cheaper(
    forward: float, ratio: float, tau: float, vol: float, more: float, call: bool
) -> None:
    low, high = black76_price(forward, forward * ratio, tau, [vol, vol * more], call)
    assert high >= low - 1e-15 * forward * max(1.0, ratio)


@given(forwards, ratios, taus, vols, st.floats(1e-3, 1e3), sides)
@settings(deadline=None)
def test_price_is_homogeneous_in_forward_and_strike(
    forward: float, ratio: float, tau: float, vol: float, scale: float, call: bool
) -> None:
    strike = forward * ratio
    once = float(black76_price(forward, strike, tau, vol, call))
    scaled = float(black76_price(forward * scale, strike * scale, tau, vol, call))
    assert scaled == pytest.approx(once * scale, rel=1e-11, abs=1e-13 * scale * (forward + strike))


@given(forwards, ratios, taus, vols, sides)
@settings(deadline=None)
def test_price_lies_between_intrinsic_value_and_forward(
    forward: float, ratio: float, tau: float, vol: float, call: bool
) -> None:
    strike = forward * ratio
    value = float(black76_price(forward, strike, tau, vol, call))
    intrinsic = max(forward - strike if call else strike - forward, 0.0)
    assert intrinsic <= value <= (forward if call else strike) * (1 + 1e-15)


@pytest.mark.parametrize(("tau", "vol"), [(0.0, 0.5), (-1.0, 0.5), (0.5, 0.0), (0.5, -0.1)])
def test_expired_or_without_vol_is_intrinsic(tau: float, vol: float) -> None:
    forward = np.array([90.0, 100.0, 110.0])
    discount = math.exp(-0.1 * max(tau, 0.0))
    calls = black76_price(forward, 100.0, tau, vol, True, 0.1)
    puts = black76_price(forward, 100.0, tau, vol, False, 0.1)
    np.testing.assert_allclose(calls, discount * np.array([0.0, 0.0, 10.0]), rtol=1e-15)
    np.testing.assert_allclose(puts, discount * np.array([10.0, 0.0, 0.0]), rtol=1e-15)
    greeks = black76_greeks(forward, 100.0, tau, vol, True, 0.1)
    np.testing.assert_allclose(greeks.delta, discount * np.array([0.0, 0.5, 1.0]), rtol=1e-15)
    np.testing.assert_array_equal(greeks.gamma, 0.0)
    assert np.isfinite(greeks.vega).all()


@pytest.mark.parametrize("call", [True, False])
def test_limits_are_approached(call: bool) -> None:
    for forward in (90.0, 110.0):
        limit = float(black76_price(forward, 100.0, 0.0, 0.5, call))
        assert float(black76_price(forward, 100.0, 1e-9, 0.5, call)) == pytest.approx(limit)
        assert float(black76_price(forward, 100.0, 0.1, 1e-9, call)) == pytest.approx(limit)


def test_endless_vol_costs_the_forward() -> None:
    assert float(black76_price(100.0, 120.0, 1.0, math.inf, True)) == 100.0


def test_nan_stays_nan() -> None:
    good = [100.0, 110.0, 0.5, 0.6]
    for i in range(4):
        bad = list(good)
        bad[i] = math.nan
        forward, strike, tau, vol = bad
        assert math.isnan(float(black76_price(forward, strike, tau, vol, True)))
        greeks = black76_greeks(forward, strike, tau, vol, True)
        assert math.isnan(float(greeks.delta))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf])
def test_price_that_is_no_price_is_named(wrong: float) -> None:
    with pytest.raises(DataError, match=r"forward .*above 0"):
        black76_price([100.0, wrong], 100.0, 1.0, 0.5, True)
    with pytest.raises(DataError, match=r"strike .*above 0"):
        black76_greeks(100.0, wrong, 1.0, 0.5, True)


@pytest.mark.parametrize("forward", [60.0, 100.0, 1e9])
@pytest.mark.parametrize("vol", [0.0, 1e-9, 0.01])
@pytest.mark.parametrize("call", [True, False])
def test_worthless_options_are_worth_a_positive_zero(
    forward: float, vol: float, call: bool
) -> None:
    strike = forward if vol == 0.0 else forward * (3.0 if call else 1.0 / 3.0)
    value = float(black76_price(forward, strike, 0.01, vol, call))
    assert value == 0.0
    assert math.copysign(1.0, value) == 1.0


def test_scalar_kernel_is_the_array_function() -> None:
    options = grid()
    array = black76_price(*options)
    alone = [
        price(forward, strike, tau, vol, call, math.exp(-rate * tau))
        for forward, strike, tau, vol, call, rate in zip(*options, strict=True)
    ]
    np.testing.assert_array_equal(array, alone)


def test_arguments_broadcast() -> None:
    values = black76_price(np.full((3, 1), 100.0), np.array([90.0, 110.0]), 0.1, 0.5, True)
    assert values.shape == (3, 2)
    assert black76_price(100.0, 90.0, 0.1, 0.5, True).shape == ()
