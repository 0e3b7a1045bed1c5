"""Forecast distances: their formulas by hand, any horizon, the edges, and monotone to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit

from features.account.aggregates import (
    FAST_FORECAST,
    FIRST_VOLATILITY,
    FORECAST_SUM,
    GROSS,
    HEADROOM,
    LONG_RUN_VOLATILITY,
)
from features.account.column_plan import column_plan, rows_at
from features.account.frame import AGGREGATES, AccountRows, compute_aggregates, compute_features
from features.account.log_distance import LOG_LIMIT, log_distance
from features.identity import columns_that_differ, digests_of, market_columns_of
from features.registry import (
    BOOK_MEANS,
    FORECAST_HORIZONS,
    MARKET_COLUMNS,
    VOLATILITIES,
    account_feature,
    prior_distances,
)
from features.state.market_state import MarketFeatures
from market.core.arrays import Floats
from market.core.errors import ModelError

FIRST_FORECAST = FIRST_VOLATILITY + len(VOLATILITIES) + len(BOOK_MEANS)
AT = 1
X = np.array([5e3, -2e3, 400.0])


@njit
def _distances(headroom, sigma, out):  # type: ignore[no-untyped-def]
    for n in range(len(out)):
        out[n] = log_distance(headroom[n], sigma[n])


def distances(headroom: Floats, sigma: Floats) -> Floats:
    out = np.empty(len(headroom))
    _distances(headroom, sigma, out)
    return out


def small_market() -> MarketFeatures:
    """Two rows of three symbols with values drawn at random; correlations that mean something."""
    rng = np.random.default_rng(4)
    values = np.exp(rng.normal(-5.0, 0.5, (2, 3, len(MARKET_COLUMNS))))
    values[:, :, MARKET_COLUMNS.index("log_volatility_long_run")] = rng.normal(-4.8, 0.3, (2, 3))
    slow = np.array([[1.0, 0.7, 0.3], [0.7, 1.0, 0.5], [0.3, 0.5, 1.0]])
    fast = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.6], [0.1, 0.6, 1.0]])
    return MarketFeatures(
        ("A", "B", "C"),
        np.array([0, 1]),
        values,
        np.stack([np.eye(3), slow]),
        np.stack([np.eye(3), fast]),
        np.zeros((2, 3), dtype=np.int64),
        np.full((2, 3), 1_000.0),
        np.ones((2, 3)),
    )


def aggregates_of(market: MarketFeatures, x: Floats, headroom: float = 500.0) -> Floats:
    rows = AccountRows(
        np.array([AT]),
        np.array([0, len(x)]),
        np.arange(len(x)),
        x,
        np.array([headroom]),
        np.array([100.0]),
    )
    return compute_aggregates(rows, market)


def test_formulas_by_hand() -> None:
    market = small_market()
    aggregates = aggregates_of(market, X)

    def of(name: str) -> Floats:
        return market.values[AT, :, MARKET_COLUMNS.index(name)]

    def book(sigma: Floats, rho: Floats) -> float:
        return math.sqrt(float((X * sigma) @ rho @ (X * sigma)))

    slow, fast = market.correlation[AT], market.fast_correlation[AT]
    v = {h: book(of(f"volatility_forecast_{h}h"), slow) for h in FORECAST_HORIZONS}
    base = of("volatility_forecast_24h")
    total, gross = float(abs(X) @ base), float(abs(X).sum())
    mean_log = float(abs(X) @ of("log_volatility_long_run")) / gross
    long_run = math.exp(mean_log) * gross * v[24] / total
    log_v_12 = np.interp(math.log(12), np.log([8, 24]), np.log([v[8] ** 2, v[24] ** 2])) / 2
    expected = {
        "forecast_distance_1h": math.log(500.0 / v[1]),
        "forecast_distance_8h": math.log(500.0 / (v[8] * math.sqrt(8))),
        "forecast_distance_12h": math.log(500.0 / math.sqrt(12)) - log_v_12,
        "forecast_distance_168h": math.log(500.0 / (v[168] * math.sqrt(168))),
        "forecast_distance_400h": math.log(500.0 / (v[168] * 20.0)),
        "long_run_distance": math.log(500.0 / long_run),
        "forecast_term_structure": math.log(v[1] / v[24]),
        "forecast_diversification": v[24] / total,
        "long_run_ratio": math.log(long_run / v[24]),
        "fast_correlation_ratio": math.log(book(base, fast) / v[24]),
    }
    found = compute_features(aggregates, tuple(expected))[0]
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)


def test_a_book_without_positions_is_as_far_as_can_be() -> None:
    ratios = ("forecast_term_structure", "forecast_diversification", "long_run_ratio")
    names = (*prior_distances(12), *ratios, "fast_correlation_ratio")
    row = compute_features(aggregates_of(small_market(), np.zeros(3)), names)[0]
    np.testing.assert_array_equal(row, [LOG_LIMIT, LOG_LIMIT, 0.0, 0.0, 0.0, 0.0])
    under = aggregates_of(small_market(), np.zeros(3), headroom=0.0)
    np.testing.assert_array_equal(compute_features(under, names[:2])[0], [-LOG_LIMIT] * 2)


def test_warm_up_is_missing_and_nothing_else() -> None:
    market = small_market()
    market.values[AT, 1, MARKET_COLUMNS.index("volatility_forecast_8h")] = np.nan
    names = ("forecast_distance_1h", "forecast_distance_8h", "forecast_distance_5h")
    row = compute_features(aggregates_of(market, X), (*names, "long_run_distance"))[0]
    np.testing.assert_array_equal(np.isnan(row), [False, True, True, False])
    market.values[AT, 1, MARKET_COLUMNS.index("volatility_forecast_24h")] = np.nan
    rest = ("forecast_term_structure", "forecast_diversification", "long_run_ratio")
    row = compute_features(
        aggregates_of(market, X), (*rest, "fast_correlation_ratio", "long_run_distance")
    )[0]
    assert np.isnan(row).all()


def test_a_book_of_options_alone_takes_the_forecast_as_its_long_run() -> None:
    aggregates = np.zeros((1, AGGREGATES))
    aggregates[0, [HEADROOM, FIRST_FORECAST + 2, LONG_RUN_VOLATILITY]] = 10.0, 2.0, 2.0
    aggregates[0, [GROSS, FORECAST_SUM, FAST_FORECAST]] = 0.0, 0.0, 3.0
    names = ("long_run_distance", "long_run_ratio", "forecast_diversification")
    row = compute_features(aggregates, names)[0]
    np.testing.assert_allclose(row, [math.log(5.0), 0.0, 1_000.0], rtol=1e-15)


@given(
    st.floats(-1e300, 1e300),
    st.floats(0.0, 1e300) | st.just(math.nan),
)
def test_log_distance_is_defined_everywhere_and_never_falls(b: float, sigma: float) -> None:
    headroom: Floats = np.sort(np.array([b, np.nextafter(b, np.inf), b + abs(b) * 1e-9, np.inf]))
    found = distances(headroom, np.full(4, sigma))
    if math.isnan(b) or math.isnan(sigma):
        assert np.isnan(found[:3]).all()
        return
    assert (abs(found) <= LOG_LIMIT).all()
    assert (np.diff(found) >= 0.0).all()
    if b <= 0.0:
        assert found[0] == -LOG_LIMIT
    elif sigma == 0.0:
        assert found[0] == LOG_LIMIT


def test_log_distance_never_falls_around_the_limits_and_powers_of_two() -> None:
    for ratio in (1e-6, 1e6, 0.5, 1.0, 2.0, 4.0, 3e3):
        headroom = np.float64(ratio) * (1.0 + np.arange(-2_000.0, 2_000.0) * 2.0**-52)
        found = distances(headroom, np.ones(len(headroom)))
        assert (np.diff(found) >= 0.0).all()


@pytest.mark.parametrize("hours", [1, 2, 8, 9, 24, 100, 168, 1_000])
def test_every_whole_hour_has_a_column_with_an_identity(hours: int) -> None:
    name, long_run = prior_distances(hours)
    feature = account_feature(name)
    assert (feature.name, feature.monotone, feature.uses_equity) == (name, -1, True)
    (digest,) = digests_of([name])
    assert columns_that_differ({name: digest}) == []
    assert columns_that_differ({name: "0" * 64}) == [name]
    assert market_columns_of([name]) <= {f"volatility_forecast_{h}h" for h in FORECAST_HORIZONS}
    assert digests_of([long_run])[0] != digest


@pytest.mark.parametrize("name", ["forecast_distance_0h", "forecast_distance_08h", "x", "prior"])
def test_other_names_are_no_columns(name: str) -> None:
    with pytest.raises(ModelError, match="no account column"):
        account_feature(name)
    with pytest.raises(ModelError, match="computes no column"):
        digests_of([name])


def test_the_search_moves_distances_of_any_horizon() -> None:
    names = ("forecast_distance_5h", "net_share", "long_run_distance", "forecast_distance_24h")
    aggregates = aggregates_of(small_market(), X)
    features = compute_features(aggregates, names)
    level = np.array([-1.0, 0.0, 17.0, 1e9])
    rows = rows_at(
        column_plan(names).of_equity, aggregates, features, np.zeros(4, dtype=np.int64), level
    )
    for k, headroom in enumerate(level):
        moved = aggregates.copy()
        moved[0, HEADROOM] = headroom
        np.testing.assert_array_equal(rows[k], compute_features(moved, names)[0])
