"""The market factor - beta and the absorption ratio - against statsmodels and LAPACK."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import statsmodels.api as sm

from features.registry import CORRELATION_HALF_LIFE_HOURS
from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
MakePanel = Callable[..., BarPanel]

SIX = ("A", "B", "C", "D", "E", "F")


def _bars_of(make_panel: MakePanel, returns: Floats, interval: str = "1h") -> BarPanel:
    """Bars without a range whose log returns are those given, after a first bar at 1."""
    rows, count = returns.shape
    panel = make_panel(rows + 1, symbols=SIX[:count], interval=interval)
    panel.values[0, :, :4] = 1.0
    panel.values[1:, :, :4] = np.exp(np.cumsum(returns, axis=0))[:, :, None]
    return panel


def _returns(panel: BarPanel) -> Floats:
    return np.diff(np.log(panel.values[:, :, CLOSE]), axis=0)


def _weights(rows: int, per_hour: int) -> Floats:
    age = np.arange(rows)[::-1] / (CORRELATION_HALF_LIFE_HOURS * per_hour)
    return np.asarray(0.5**age)


@pytest.mark.parametrize("interval", ["1h", "30m"])
def test_market_beta_is_the_slope_of_a_weighted_regression(
    interval: str, make_panel: MakePanel, advance: Advance
) -> None:
    # Without a constant, as our moments are about zero.
    n = 2 if interval == "30m" else 1
    panel = make_panel(200 * n, symbols=SIX, seed=51, interval=interval)
    returns = _returns(panel)
    got = advance(panel).column("market_beta")
    for row in (100 * n, 150 * n, 200 * n - 1):
        past = returns[:row]
        market = past.mean(axis=1)
        for s in range(6):
            fit = sm.WLS(past[:, s], market, weights=_weights(row, n)).fit()
            assert got[row, s] == pytest.approx(fit.params[0], rel=1e-9)
    np.testing.assert_allclose(np.nanmean(got[73 * n :], axis=1), 1.0, rtol=1e-10)


def test_market_beta_of_one_factor_is_its_loading_over_the_mean_loading(
    make_panel: MakePanel, advance: Advance
) -> None:
    loadings = np.array([0.5, 1.0, 3.0, -0.5])
    factor = np.random.default_rng(52).normal(0.0, 0.01, (150, 1))
    got = advance(_bars_of(make_panel, factor * loadings)).column("market_beta")[-1]
    np.testing.assert_allclose(got, loadings, rtol=1e-9)  # their mean is 1


def test_market_beta_agrees_with_numpy_where_means_are_small(
    make_panel: MakePanel, advance: Advance
) -> None:
    # numpy.cov takes off a weighted mean, which ours leaves: over 30 half-lives of independent
    # returns it is small against their spread.
    panel = make_panel(2_200, symbols=SIX[:4], seed=53)
    returns = _returns(panel)
    weights = _weights(len(returns), 1)
    got = advance(panel).column("market_beta")[-1]
    for s in range(4):
        both = np.cov(returns[:, s], returns.mean(axis=1), aweights=weights)
        assert got[s] == pytest.approx(both[0, 1] / both[1, 1], abs=0.02)


def test_market_beta_leaves_out_a_symbol_in_warm_up(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(240, symbols=SIX[:3], seed=54)
    panel.values[:180, 2] = np.nan
    features = advance(panel)
    assert np.isnan(features.column("market_beta")[200, 2])
    returns = _returns(panel)[:200, :2]
    market, weights = returns.mean(axis=1), _weights(200, 1)
    for s in range(2):
        fit = sm.WLS(returns[:, s], market, weights=weights).fit()
        assert features.column("market_beta")[200, s] == pytest.approx(fit.params[0], rel=1e-9)


def _correlations(returns: Floats, per_hour: int = 1) -> Floats:
    """Matrices after each return, shape (T, S, S), from the weighted means of pandas."""
    half_life = CORRELATION_HALF_LIFE_HOURS * per_hour
    rows, count = returns.shape
    products = pd.DataFrame((returns[:, :, None] * returns[:, None, :]).reshape(rows, -1))
    mean = products.ewm(halflife=half_life).mean().to_numpy().reshape(rows, count, count)
    scale = np.sqrt(np.diagonal(mean, axis1=1, axis2=2))
    scales = scale[:, :, None] * scale[:, None, :]
    # A symbol that has not moved yet has no correlation.
    correlation: Floats = np.divide(mean, scales, out=np.zeros_like(mean), where=scales > 0.0)
    return correlation


def _shares(returns: Floats, per_hour: int = 1) -> Floats:
    """Absorption ratios after each return, by LAPACK."""
    eigenvalues = np.linalg.eigvalsh(_correlations(returns, per_hour))
    return np.asarray(eigenvalues[:, -1] / returns.shape[1])


@pytest.mark.parametrize("interval", ["1h", "30m"])
@pytest.mark.parametrize("common", [0.2, 0.5, 0.9])
def test_absorption_ratio_is_the_largest_eigenvalue(
    common: float, interval: str, make_panel: MakePanel, advance: Advance
) -> None:
    n = 2 if interval == "30m" else 1
    panel = make_panel(220 * n, symbols=SIX, seed=55, interval=interval, common=common)
    expected = _shares(_returns(panel), n)[72 * n :]
    got = advance(panel).column("absorption_ratio")[72 * n + 1 :]
    for s in range(6):
        np.testing.assert_allclose(got[:, s], expected, rtol=1e-8)


def test_absorption_ratio_of_mixed_signs(make_panel: MakePanel, advance: Advance) -> None:
    # The factor's eigenvector has positive and negative entries, which power iteration from
    # positive ones must leave.
    rng = np.random.default_rng(56)
    factor = rng.normal(0.0, 0.01, (200, 1))
    returns = factor * np.array([1.0, 0.4, -1.3, 0.8, -0.6]) + rng.normal(0.0, 0.01, (200, 5))
    got = advance(_bars_of(make_panel, returns)).column("absorption_ratio")[73:, 0]
    np.testing.assert_allclose(got, _shares(returns)[72:], rtol=1e-8)


def test_absorption_ratio_of_independent_returns_is_close_to_the_largest_eigenvalue(
    make_panel: MakePanel, advance: Advance
) -> None:
    # Eigenvalues that lie together make the iteration slow: it stops after 200 steps. The
    # largest shortfall over 30 seeds was 0.0028.
    returns = np.random.default_rng(57).normal(0.0, 0.01, (300, 5))
    got = advance(_bars_of(make_panel, returns)).column("absorption_ratio")[73:, 0]
    expected = _shares(returns)[72:]
    np.testing.assert_allclose(got, expected, atol=0.005)
    assert (got <= expected * (1.0 + 1e-12)).all()  # a Rayleigh quotient is never above


def test_absorption_ratio_leaves_out_a_symbol_in_warm_up(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(300, symbols=SIX[:3], seed=58)
    panel.values[:150, 2] = np.nan
    got = advance(panel).column("absorption_ratio")
    two = _shares(_returns(panel)[:, :2])
    np.testing.assert_allclose(got[100:222, 0], two[99:221], rtol=1e-9)
    assert np.isnan(got[100:222, 2]).all()
    # From its own first half-life on it is the third of three. Its pairs began with it, so their
    # weights are those of a shorter past.
    returns = _returns(panel)
    young = _correlations(returns[150:])[-1]
    known = np.eye(3)
    known[:2, :2] = _correlations(returns[:, :2])[-1]
    known[2, :] = known[:, 2] = young[2]
    expected = np.linalg.eigvalsh(known)[-1] / 3.0
    assert got[-1, 2] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_absorption_ratio_of_two_opposite_symbols(
    noise: float, make_panel: MakePanel, advance: Advance
) -> None:
    # rho < 0 gives the eigenvalues 1 - rho of (1, -1) and 1 + rho of (1, 1).
    rng = np.random.default_rng(59)
    factor = rng.normal(0.0, 0.01, (150, 1))
    returns = factor * np.array([1.0, -1.0]) + rng.normal(0.0, noise, (150, 2))
    got = advance(_bars_of(make_panel, returns)).column("absorption_ratio")[73:, 0]
    np.testing.assert_allclose(got, _shares(returns)[72:], rtol=1e-8)


def test_absorption_ratio_where_another_group_comes_to_lead(
    make_panel: MakePanel, advance: Advance
) -> None:
    # Two groups of three that never move in the same bar: first one is close, then the other.
    rng = np.random.default_rng(60)
    rows = 1_000
    factor, noise = rng.normal(0.0, 0.01, (rows, 1)), rng.normal(0.0, 0.01, (rows, 3))
    even, early = np.arange(rows) % 2 == 0, np.arange(rows) < 500
    moves = np.where(even == early, 2.0, 0.7)[:, None] * factor + noise
    returns = np.concatenate([moves * even[:, None], moves * ~even[:, None]], axis=1)
    got = advance(_bars_of(make_panel, returns)).column("absorption_ratio")[100:, 0]
    missed = np.abs(got - _shares(returns)[99:])
    # Where the two groups are level the iteration may end early, and catches up with later bars.
    assert missed.max() < 0.01
    assert np.mean(missed > 1e-3 * got) < 0.01
