from __future__ import annotations

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813
from hypothesis import given, strategies as st

from margin.surface.surface import VolSurface
from margin.surface.svi import durrleman, total_variance
from market.core.errors import DataError

TAU = np.array([0.05, 0.25, 1.0])
FORWARD = np.array([100.0, 101.0, 104.0])
RAW = np.array(
    [
        [0.005, 0.06, -0.2, 0.01, 0.10],
        [0.030, 0.11, -0.25, 0.02, 0.25],
        [0.150, 0.20, -0.3, 0.05, 0.50],
    ]
)
K = np.linspace(-1.0, 1.0, 41)


@pytest.fixture(scope="module")
def surface() -> VolSurface:
    return VolSurface.of(TAU, FORWARD, RAW)


def test_each_expiry_has_its_own_smile(surface: VolSurface) -> None:
    for tau, raw in zip(TAU, RAW, strict=True):
        np.testing.assert_allclose(surface.total_variance(K, tau), total_variance(raw, K))


def test_variance_is_linear_in_time_between(surface: VolSurface) -> None:
    expected = 0.25 * total_variance(RAW[0], K) + 0.75 * total_variance(RAW[1], K)
    np.testing.assert_allclose(surface.total_variance(K, 0.2), expected)


@given(st.floats(-3.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_variance_never_falls_in_time(k: float, one: float, other: float) -> None:
    surface = VolSurface.of(TAU, FORWARD, RAW)
    early, late = sorted((one, other))
    assert surface.total_variance(k, early) <= surface.total_variance(k, late) + 1e-15


def test_outside_the_expiries(surface: VolSurface) -> None:
    np.testing.assert_allclose(surface.vol(K, 0.01), surface.vol(K, 0.05))
    assert float(surface.vol(0.0, 3.0)) == pytest.approx(float(surface.vol(0.0, 1.0)))
    wide, first = 4.0, RAW[2].copy()
    first[0] += 2.0 * float(total_variance(first, np.zeros(())))
    np.testing.assert_allclose(surface.total_variance(K, 3.0), total_variance(first, K))
    assert durrleman(first, wide * K).min() >= 0.0
    shorter = RAW[0] * [0.2, 0.2, 1.0, 1.0, 1.0]
    assert durrleman(shorter, wide * K).min() >= 0.0


def test_no_time_and_unknown_numbers(surface: VolSurface) -> None:
    assert float(surface.total_variance(0.1, 0.0)) == 0.0
    assert np.isnan(surface.vol(0.1, np.array([0.0, -1.0, math.nan]))).all()
    for k, tau in ((math.nan, 0.1), (0.1, math.nan), (0.1, -1.0)):
        assert math.isnan(float(surface.total_variance(k, tau)))


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("tau", [0.01, 0.05, 0.13, 1.0, 2.0])
@pytest.mark.parametrize("delta", [0.1, 0.25, 0.4])
def test_quantlib_gives_the_strike_the_same_delta(
    surface: VolSurface, delta: float, tau: float, call: bool
) -> None:
    k = surface.at_delta(delta, tau, call)
    spread = float(np.sqrt(surface.total_variance(k, tau)))
    kind = ql.Option.Call if call else ql.Option.Put
    calculator = ql.BlackDeltaCalculator(kind, ql.DeltaVolQuote.Fwd, 1.0, 1.0, 1.0, spread)
    assert abs(calculator.deltaFromStrike(math.exp(k))) == pytest.approx(delta, abs=1e-9)


def test_figures_of_a_smile(surface: VolSurface) -> None:
    figures = surface.smile(0.25)
    call, put = (surface.at_delta(0.25, 0.25, side) for side in (True, False))
    high, low = float(surface.vol(call, 0.25)), float(surface.vol(put, 0.25))
    assert figures.atm == pytest.approx(float(surface.vol(0.0, 0.25)))
    assert figures.skew == pytest.approx(high - low)
    assert figures.curvature == pytest.approx((high + low) / 2 - figures.atm)
    assert figures.skew < 0.0 < figures.curvature  # the left wing is the steeper one
    flat = VolSurface.of([0.5], [1.0], [[0.08, 0.0, 0.0, 0.0, 0.1]]).smile(0.5)
    assert (flat.atm, flat.skew, flat.curvature) == pytest.approx((0.4, 0.0, 0.0))


@pytest.mark.parametrize(
    ("tau", "forward", "raw", "message"),
    [
        (TAU[::-1], FORWARD, RAW, "expected rising years"),
        (TAU, FORWARD * [1, -1, 1], RAW, "a price above 0 an expiry"),
        (TAU, FORWARD, RAW[::-1], "calendar arbitrage"),
        ([1.0], [1.0], [[-0.041, 0.1331, 0.306, 0.3586, 0.4153]], "butterfly arbitrage"),
        ([1.0], [1.0], [[0.1, 3.0, 0.0, 0.0, 0.1]], "Lee"),
        ([], [], np.empty((0, 5)), "at least one expiry"),
    ],
)
def test_no_surface_with_arbitrage(
    tau: list[float], forward: list[float], raw: list[list[float]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        VolSurface.of(tau, forward, raw)


def test_impossible_deltas_are_refused(surface: VolSurface) -> None:
    for delta, tau in ((0.0, 1.0), (1.0, 1.0), (0.25, 0.0), (math.nan, 1.0)):
        with pytest.raises(DataError, match="expected a delta between 0 and 1"):
            surface.at_delta(delta, tau, True)
