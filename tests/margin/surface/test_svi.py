from __future__ import annotations

import math

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813
from hypothesis import given, strategies as st

from margin.surface.arbitrage import butterfly_margin, calendar_margin
from margin.surface.svi import (
    _first,
    _second,
    check_raw,
    durrleman,
    least_variance,
    total_variance,
    wings,
)
from market.core.arrays import Floats
from market.core.errors import DataError

K = np.linspace(-1.5, 1.5, 301)
SMILE = np.array([0.01, 0.12, -0.3, 0.05, 0.2])
VOGT = np.array([-0.0410, 0.1331, 0.3060, 0.3586, 0.4153])
"""Axel Vogt's smile with a butterfly, Gatheral and Jacquier (2014), Example 3.1, tau = 1."""


@st.composite
def smiles(draw: st.DrawFn) -> Floats:
    """Raw parameters with a lowest variance above 0 and wings under 2."""
    rho = draw(st.floats(-0.95, 0.95))
    b = draw(st.floats(1e-4, 1.0)) * 1.9 / (1.0 + abs(rho))
    sigma = draw(st.floats(0.01, 2.0))
    least = draw(st.floats(1e-3, 0.5))
    a = least - b * sigma * math.sqrt(1.0 - rho * rho)
    return np.array([a, b, rho, draw(st.floats(-0.5, 0.5)), sigma])


@given(smiles())
def test_derivatives_are_those_of_the_variance(raw: Floats) -> None:
    _, b, rho, m, sigma = raw
    first, second = _first(b, rho, m, sigma, K), _second(b, m, sigma, K)
    h = 1e-4 * raw[4]
    up, here, down = (total_variance(raw, K + step) for step in (h, 0.0, -h))
    scale = raw[1]
    np.testing.assert_allclose(first, (up - down) / (2 * h), atol=1e-5 * scale)
    rounding = 4e-16 * np.abs(here).max() / h**2
    np.testing.assert_allclose(
        second, (up - 2 * here + down) / h**2, atol=1e-4 * scale / raw[4] + 8 * rounding
    )


def test_quantlib_has_the_same_variance() -> None:
    a, b, rho, m, sigma = SMILE
    tau, forward = 0.4, 63_000.0
    section = ql.SviSmileSection(tau, forward, [a, b, sigma, rho, m])
    theirs = [section.volatility(forward * math.exp(k)) ** 2 * tau for k in K]
    np.testing.assert_allclose(total_variance(SMILE, K), theirs, rtol=1e-12)


def test_g_is_the_density_up_to_a_factor() -> None:
    """``p(k) = g(k) / sqrt(2 pi w) exp(-d2^2 / 2)`` against the second difference of QuantLib's
    call prices (Breeden and Litzenberger)."""
    h, k = 1e-3, np.linspace(-0.8, 0.8, 33)

    def call(strike: float) -> float:
        w = float(total_variance(VOGT, np.array(math.log(strike))))
        return float(ql.blackFormula(ql.Option.Call, strike, 1.0, math.sqrt(w)))

    strikes = np.exp(k)
    bend = [(call(x + h) - 2 * call(x) + call(x - h)) / h**2 for x in strikes]
    w = total_variance(VOGT, k)
    d2 = -k / np.sqrt(w) - np.sqrt(w) / 2
    ours = durrleman(VOGT, k) / np.sqrt(2 * np.pi * w) * np.exp(-(d2**2) / 2) / strikes
    np.testing.assert_allclose(ours, bend, atol=2e-4)


def test_the_published_butterfly_is_found() -> None:
    assert butterfly_margin(VOGT) == pytest.approx(durrleman(VOGT, np.linspace(0, 2, 20_001)).min())
    assert butterfly_margin(VOGT) < -0.01
    assert butterfly_margin(SMILE) > 0.0


@given(smiles())
def test_no_finer_grid_finds_a_deeper_butterfly(raw: Floats) -> None:
    x = np.sinh(np.linspace(-11.0, 11.0, 40_001))
    fine = durrleman(raw, raw[3] + raw[4] * x).min()
    assert butterfly_margin(raw) <= fine + 1e-9 * max(1.0, abs(fine))


def test_a_crossing_is_found_between_grid_points_and_in_the_wings() -> None:
    lifted = SMILE + np.array([0.001, 0.0, 0.0, 0.0, 0.0])
    assert calendar_margin(SMILE, lifted) == pytest.approx(0.001)
    assert calendar_margin(lifted, SMILE) == pytest.approx(-0.001)
    flatter = lifted * [1.0, 0.999, 1.0, 1.0, 1.0]
    assert calendar_margin(SMILE, flatter) == -math.inf
    thin = np.array([1e-3, 0.1, 0.0, 0.3, 1e-3])
    wide = np.array([-0.0088, 0.1, 0.0, 0.3, 0.1])
    assert calendar_margin(wide, wide) == 0.0
    dense = 0.3 + np.linspace(-1.0, 1.0, 200_001)
    gap = (total_variance(wide, dense) - total_variance(thin, dense)).min()
    assert calendar_margin(thin, wide) <= gap + 1e-12


def test_wings_and_lowest_variance() -> None:
    left, right = wings(SMILE)
    far = 1e7
    ends = total_variance(SMILE, np.array([-far, far])) / far
    np.testing.assert_allclose([left, right], ends, rtol=1e-6)
    assert least_variance(SMILE) == pytest.approx(total_variance(SMILE, K).min(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((0, math.nan), "expected five finite numbers"),
        ((1, -0.1), "expected b of 0 or more"),
        ((2, 1.1), "rho from -1 to 1"),
        ((4, 0.0), "sigma above 0"),
        ((0, -0.5), "lowest total variance"),
        ((1, 1.9), "Lee"),
    ],
)
def test_what_is_no_smile_is_refused(change: tuple[int, float], message: str) -> None:
    raw = SMILE.copy()
    raw[change[0]] = change[1]
    with pytest.raises(DataError, match=message):
        check_raw(raw, "BTC-27MAR26")


def test_another_number_of_parameters_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(5,\)"):
        total_variance(np.zeros(4), K)
