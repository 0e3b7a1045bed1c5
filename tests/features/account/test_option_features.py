"""Books with options: delta plus gamma in the volatility, and the shares of delta, gamma, vega."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from features.account.aggregates import FIRST_VOLATILITY
from features.account.frame import AccountRows, LegGreeks, compute_aggregates, compute_features
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    CROSS_VOLATILITY,
    OPTION_FEATURES,
    VOLATILITIES,
)
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel

Floats = npt.NDArray[np.float64]
SameBits = Callable[[Floats, Floats], bool]

LAST = 259
VOLATILITY = FIRST_VOLATILITY + VOLATILITIES.index(CROSS_VOLATILITY)


@pytest.fixture(scope="module")
def market(
    make_panel: Callable[..., BarPanel], advance: Callable[[BarPanel], MarketFeatures]
) -> MarketFeatures:
    return advance(make_panel(LAST + 1, symbols=("A", "B", "C"), seed=12))


def rows(
    notionals: list[float],
    gammas: list[float],
    vegas: list[float] | None = None,
    symbols: list[int] | None = None,
    options: list[bool] | None = None,
) -> AccountRows:
    """One account; every leg is an option unless said otherwise."""
    n = len(notionals)
    return AccountRows(
        row=np.array([LAST]),
        leg_start=np.array([0, n]),
        leg_symbol=np.array(range(n) if symbols is None else symbols, dtype=np.int64),
        leg_notional=np.array(notionals, dtype=np.float64),
        headroom=np.array([100.0]),
        maintenance_margin=np.array([1.0]),
        leg_greeks=LegGreeks(
            np.array([True] * n if options is None else options, dtype=np.bool_),
            np.array(gammas, dtype=np.float64),
            np.array([0.0] * n if vegas is None else vegas, dtype=np.float64),
        ),
    )


def feature(account: AccountRows, market: MarketFeatures, name: str) -> float:
    values = compute_features(compute_aggregates(account, market))[0]
    return float(values[ACCOUNT_COLUMNS.index(name)])


def test_volatility_is_that_of_simulated_profit_to_the_second_order(
    market: MarketFeatures,
) -> None:
    x = np.array([1e4, -5e3, 200.0])
    g = np.array([-4e5, 9e5, -2e6])
    sigma = market.column(CROSS_VOLATILITY)[LAST]
    covariance = np.outer(sigma, sigma) * market.correlation[LAST]
    moves = np.random.default_rng(3).multivariate_normal(np.zeros(3), covariance, 400_000)
    profit = moves @ x + 0.5 * (moves**2) @ g
    got = compute_aggregates(rows(x.tolist(), g.tolist()), market)[0, VOLATILITY]
    assert got == pytest.approx(profit.std(), rel=0.01)
    alone = compute_aggregates(rows(x.tolist(), [0.0] * 3), market)[0, VOLATILITY]
    assert got > 1.1 * alone  # so that the curvature is tested at all


def test_gamma_of_one_underlying_nets(market: MarketFeatures) -> None:
    flat = rows([5.0, 7.0], [1e6, -1e6], symbols=[1, 1])
    sigma = market.column(CROSS_VOLATILITY)[LAST, 1]
    assert compute_aggregates(flat, market)[0, VOLATILITY] == pytest.approx(12.0 * sigma)
    curved = rows([0.0, 0.0], [1e6, 2e6], symbols=[1, 1])
    want = np.sqrt(0.5) * 3e6 * sigma**2
    assert compute_aggregates(curved, market)[0, VOLATILITY] == pytest.approx(want)


def test_book_without_options_keeps_every_bit(market: MarketFeatures, same_bits: SameBits) -> None:
    with_zeros = rows([1e4, -5e3, 0.1], [0.0] * 3, options=[False] * 3)
    without = dataclasses.replace(with_zeros, leg_greeks=None)
    ours, plain = (compute_aggregates(account, market) for account in (with_zeros, without))
    assert same_bits(ours, plain)
    for name in OPTION_FEATURES:
        assert feature(without, market, name) == 0.0


def test_shares_by_hand(market: MarketFeatures) -> None:
    # 60 of perps, options of net -15 and gross 25 of delta.
    account = rows(
        [60.0, -20.0, 5.0],
        [0.0, -400.0, 100.0],
        [0.0, -30.0, 50.0],
        options=[False, True, True],
    )
    assert feature(account, market, "delta_share") == pytest.approx(-15.0 / 85.0)
    assert feature(account, market, "gamma_share") == pytest.approx(-30.0 / (85.0 + 50.0))
    assert feature(account, market, "vega_share") == pytest.approx(2.0 / (85.0 + 8.0))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_shares_of_options_hedged_to_nothing_stay_within_their_bounds(
    side: float, market: MarketFeatures
) -> None:
    account = rows([0.0], [side * 1e9], [side * 1e9])
    assert feature(account, market, "delta_share") == 0.0
    assert feature(account, market, "gamma_share") == side
    assert feature(account, market, "vega_share") == side


@given(
    legs=st.lists(
        st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=3
    )
)
def test_shares_are_shares(market: MarketFeatures, legs: list[tuple[float, float, float]]) -> None:
    account = rows(*([leg[k] for leg in legs] for k in range(3)))  # type: ignore[arg-type]
    for name in OPTION_FEATURES:
        assert -1.0 - 1e-12 <= feature(account, market, name) <= 1.0 + 1e-12


def test_shares_do_not_change_with_a_deposit() -> None:
    for one in ACCOUNT_FEATURES:
        if one.name in OPTION_FEATURES:
            assert (one.uses_equity, one.monotone) == (False, 0)


def test_curvature_on_a_symbol_in_warm_up_is_not_known(market: MarketFeatures) -> None:
    values = market.values.copy()
    values[:, 1] = np.nan
    blind = dataclasses.replace(market, values=values)
    hedged = rows([0.0, 3.0], [5.0, 0.0], symbols=[1, 0])
    assert np.isnan(compute_aggregates(hedged, blind)[0, VOLATILITY])
