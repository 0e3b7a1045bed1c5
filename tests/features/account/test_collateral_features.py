"""Collateral in coins: what it counts for, and whether it falls with the book."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from features.account.bounded_shares import LIMIT
from features.account.frame import AccountRows, compute_aggregates, compute_features
from features.registry import ACCOUNT_COLUMNS
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel

Floats = npt.NDArray[np.float64]
MakePanel = Callable[..., BarPanel]
ROW = 199
OF_COLLATERAL = ("collateral_share", "wrong_way_share")


@pytest.fixture(scope="module")
def market(make_panel: MakePanel, advance: Callable[[BarPanel], MarketFeatures]) -> MarketFeatures:
    return advance(make_panel(ROW + 1, seed=3))


def _features(
    market: MarketFeatures, notionals: list[float], collateral: list[float]
) -> dict[str, float]:
    """One account: leg s is in symbol s."""
    legs = len(notionals)
    rows = AccountRows(
        row=np.array([ROW]),
        leg_start=np.array([0, legs]),
        leg_symbol=np.arange(legs),
        leg_notional=np.array(notionals),
        headroom=np.array([5.0]),
        maintenance_margin=np.array([1.0]),
        leg_collateral=np.array(collateral),
    )
    (row,) = compute_features(compute_aggregates(rows, market)).tolist()
    return dict(zip(ACCOUNT_COLUMNS, row, strict=True))


def _beta(market: MarketFeatures, s: int) -> float:
    return float(market.column("market_beta")[ROW, s])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_collateral_that_falls_with_a_long_book_helps_a_short_one(
    side: float, market: MarketFeatures
) -> None:
    found = _features(market, [side * 80.0, side * 20.0, 0.0], [0.0, 0.0, 50.0])
    assert found["collateral_share"] == pytest.approx(0.5)
    assert found["wrong_way_share"] == pytest.approx(side * 0.5 * _beta(market, 2))


def test_debt_in_a_coin_counts_the_other_way(market: MarketFeatures) -> None:
    found = _features(market, [100.0, 0.0], [0.0, -30.0])
    assert found["collateral_share"] == pytest.approx(-0.3)
    assert found["wrong_way_share"] == pytest.approx(-0.3 * _beta(market, 1))


def test_collateral_without_positions_is_at_the_limit_and_has_no_wrong_way(
    market: MarketFeatures,
) -> None:
    found = _features(market, [0.0], [10.0])
    assert found["collateral_share"] == LIMIT
    assert found["wrong_way_share"] == 0.0


def test_collateral_of_a_symbol_in_warm_up_leaves_all_other_features(
    market: MarketFeatures,
) -> None:
    values = market.values.copy()
    values[:, 2, :] = np.nan
    cold = replace(market, values=values)
    without = _features(cold, [100.0, -40.0], [0.0, 0.0])
    beside = _features(cold, [100.0, -40.0, 0.0], [0.0, 0.0, 25.0])
    assert np.isnan(beside["wrong_way_share"])
    for name in set(ACCOUNT_COLUMNS) - set(OF_COLLATERAL):
        assert beside[name] == without[name], name
