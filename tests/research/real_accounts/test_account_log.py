"""Positions and cash as trades and transfers move them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from research.real_accounts.account_log import AccountLog

BTC = "BTCUSDT-PERP"


def test_partial_close_keeps_the_entry_and_books_the_profit() -> None:
    log = AccountLog("a", cash=1000.0)
    log.trade(BTC, 2.0, 100.0)
    log.trade(BTC, 2.0, 110.0)
    assert log.entry[BTC] == pytest.approx(105.0)
    log.trade(BTC, -1.0, 125.0)
    assert log.quantity[BTC] == 3.0
    assert log.entry[BTC] == pytest.approx(105.0)
    assert log.cash == pytest.approx(1020.0)


def test_flip_closes_all_and_opens_the_rest_at_the_price() -> None:
    log = AccountLog("a", cash=1000.0)
    log.trade(BTC, 1.0, 100.0)
    log.trade(BTC, -3.0, 90.0)
    assert (log.quantity[BTC], log.entry[BTC], log.cash) == (-2.0, 90.0, 990.0)
    log.trade(BTC, 2.0, 80.0)
    assert log.flat
    assert log.cash == pytest.approx(1010.0)


def test_rounding_left_of_a_closed_position_is_flat() -> None:
    log = AccountLog("a")
    for _ in range(3):
        log.trade(BTC, 0.1, 100.0)
    log.trade(BTC, -0.3, 100.0)
    assert log.flat


@given(
    st.lists(
        st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 1000)), min_size=1, max_size=30
    ),
    st.integers(1, 1000),
)
def test_equity_is_what_was_paid_in_plus_the_value_of_the_trades(
    trades: list[tuple[int, int]], mark: int
) -> None:
    log = AccountLog("a")
    log.transfer(500.0)
    for quantity, price in trades:
        log.trade(BTC, float(quantity), float(price))
    (held,) = log.account().positions or (None,)
    equity = log.cash
    if held is not None:
        assert held.entry_price is not None
        equity += held.quantity * (mark - held.entry_price)
    paid = sum(q * p for q, p in trades)
    wanted = 500.0 - paid + mark * sum(q for q, _ in trades)
    assert np.isclose(equity, wanted, rtol=1e-9, atol=1e-6)
    assert (held is None) == (sum(q for q, _ in trades) == 0)
