"""Floors over history are the floors of a decision, the balances of the book included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decisions.book_scoring import account_rows
from features.account.frame import compute_aggregates, compute_features
from features.registry import ACCOUNT_COLUMNS
from features.state.market_state import MarketState
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import add_on_cap
from margin.book.requirement import compute_requirement
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import load_ruleset
from market.accounts.account_files import write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.bars.history import MarketHistory
from market.core.clock import INTERVALS
from market.simulator.simulated_market import simulate_bars
from market.sources.base import AccountUpdates
from training.backtest.paced_add_on import rule_bounds
from training.labels.account_panel import PanelTimes, value_panel
from training.labels.book_intervals import from_history
from training.labels.market_path import LabelMarket

RULES = load_ruleset("emir-tiers")


def test_floors_of_a_recorded_book_are_those_of_a_decision(tmp_path: Path) -> None:
    panel = simulate_bars(5, 20, 3, INTERVALS["1h"])
    market = MarketState(panel.symbols, panel.interval).advance(panel)
    history = MarketHistory.from_panel(panel)
    symbols, closes, mark = panel.symbols, panel.closes, history.mark
    row = len(closes) - 9
    coins = [symbol.removesuffix("USDT") for symbol in symbols]
    legs = (
        Position(symbols[0], 2e4 / mark[row, 0], float(mark[row, 0])),
        Position(symbols[1], -3e3 / mark[row, 1], float(mark[row, 1])),
    )
    # Two accounts, so that legs and balances of one are not taken for the other's.
    owing = (Balance(coins[0], 6e3 / mark[row, 0]), Balance(coins[2], -50.0 / mark[row, 2]))
    accounts = [
        Account("a", 1_000.0, legs, owing),
        Account("b", 9_000.0, legs[:1], (Balance(coins[2], 7e3 / mark[row, 2]),)),
    ]
    book = Book.of(accounts)
    recorded = write_accounts(tmp_path, [AccountUpdates(int(closes[0]), book)])
    times = value_panel(
        from_history(recorded, closes, symbols, mark, RULES),
        PanelTimes(np.array([1, 0, 1]), np.array([row, row, row - 1]), np.array([0, 1, 2, 3]), 1.0),
        LabelMarket(history, market),
        RULES,
    )
    view = MarketSnapshot.of_history(history, market, int(closes[row])).view()
    requirement = compute_requirement(book, view, RULES)
    floors = active_floors(requirement, view, RULES.floors)
    assert floors["wrong_way"][0] > floors["correlation"][0] > 0.0
    expected = largest_floor(floors, requirement)[::-1]
    bounds = rule_bounds(times, history, market, RULES)
    assert bounds.floor[:2] == pytest.approx(expected, rel=1e-12)
    cap = add_on_cap(requirement.initial_margin, RULES.add_on)[::-1]
    assert bounds.cap[:2] == pytest.approx(cap)

    # And so are the model's columns, those of the collateral among them.
    at_last_row = replace(
        account_rows(requirement, np.arange(2)), row=np.full(2, row, dtype=np.int64)
    )
    served = compute_features(compute_aggregates(at_last_row, market))
    learnt = compute_features(compute_aggregates(times.rows, market))[[1, 0]]
    np.testing.assert_allclose(learnt, served, rtol=1e-9)
    share, wrong_way = (
        served[:, ACCOUNT_COLUMNS.index(name)] for name in ("collateral_share", "wrong_way_share")
    )
    assert share == pytest.approx([(0.95 * 6e3 - 50.0) / 2.3e4, 0.8 * 7e3 / 2e4], rel=1e-9)
    assert (wrong_way > 0.0).all()
