"""What is kept of a market follows its clock and never serves another market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from features.state.market_basis import market_basis
from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR
from market.quotes.quotes import InstrumentQuote, QuoteBoard


def test_basis_follows_the_clock_and_the_market(
    hazard_panel: BarPanel, advance: Callable[[BarPanel], MarketFeatures]
) -> None:
    history, features = MarketHistory.from_panel(hazard_panel), advance(hazard_panel)
    snapshot = MarketSnapshot.of_history(history, features, int(features.closes[-1]))
    now = market_basis(snapshot)
    assert market_basis(replace(snapshot)) is now
    assert now.volatility_ratio == snapshot.volatility_ratio()
    usable = [reason is None for reason in now.symbol_reasons]
    assert usable == snapshot.usable().tolist()
    assert any(usable)

    later = market_basis(snapshot.at(snapshot.as_of + 5 * HOUR, None))
    assert later.as_of == snapshot.as_of + 5 * HOUR
    np.testing.assert_array_equal(later.view.age_hours, now.view.age_hours + 5.0)
    for reason in np.array(later.symbol_reasons)[usable]:
        assert "stale market data: the newest bar of" in str(reason)
    assert market_basis(snapshot).symbol_reasons == now.symbol_reasons

    quotes = QuoteBoard({}, {"USDT": InstrumentQuote(snapshot.as_of, mark=0.99)})
    assert market_basis(replace(snapshot, quotes=quotes)).view.quotes is quotes
    halved = market_basis(replace(snapshot, mark=snapshot.mark / 2.0))
    np.testing.assert_array_equal(halved.view.mark, snapshot.mark / 2.0)
