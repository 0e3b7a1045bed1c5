"""A table selected from the market's prices is the one that is built instrument by instrument."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from hypothesis import given, strategies as st

from margin.valuation.instrument_table import price_instruments
from margin.valuation.market_prices import market_prices
from margin.valuation.marks import suspect_view
from margin.valuation.view import MarketView
from market.core.clock import HOUR
from market.quotes.quotes import InstrumentQuote, QuoteBoard

UNKNOWN = "NOSUCH-PERP"
"""Has no price: a table with it is built instrument by instrument."""

NAMES = [symbol + kind for symbol in ("BTCUSDT", "ETHUSDT", "XUSDT") for kind in ("", "-PERP")]


def quoted(make_view: Callable[..., MarketView]) -> MarketView:
    board = QuoteBoard(
        instruments={
            "BTCUSDT-PERP": InstrumentQuote(-HOUR, mark=100_050.0, confidence=0.8),
            "ETHUSDT": InstrumentQuote(-5 * HOUR, mark=1_990.0, confidence=0.9),
            "ETHUSDT-PERP": InstrumentQuote(0, open_interest=1e4, suspect_mark=1.0, suspect_ts=0),
        }
    )
    view = make_view(age_hours=[0.5, 3.0, 0.0], suspect=[False, False, True])
    return dataclasses.replace(view, quotes=board)


@given(st.lists(st.sampled_from(NAMES)), st.lists(st.sampled_from(["BTC", "ETH", "NOSUCH"])))
def test_selected_table_is_the_built_one(
    make_view: Callable[..., MarketView], names: list[str], assets: list[str]
) -> None:
    view = quoted(make_view)
    selected = price_instruments(names, assets, view)
    built = price_instruments([*names, UNKNOWN], assets, view)
    assert list(built.row) == [*selected.row, UNKNOWN]
    assert not selected.errors
    for name in ("symbol", "price", "price_age_hours", "quoted", "stale", "suspect", "kind"):
        np.testing.assert_array_equal(getattr(selected, name), getattr(built, name)[:-1], name)
    for name in ("valued", "underlying", "expiry", "strike", "vol", "call", "quote_age_hours"):
        np.testing.assert_array_equal(getattr(selected, name), getattr(built, name)[:-1], name)
    order = np.argsort(built.rank[:-1], kind="stable")
    np.testing.assert_array_equal(np.argsort(selected.rank, kind="stable"), order)
    assert selected.underlying_symbol == built.underlying_symbol
    assert selected.underlyings.name == built.underlyings.name
    for name in ("spot", "spot_confidence", "perp_price", "perp_confidence", "open_interest"):
        np.testing.assert_array_equal(
            getattr(selected.underlyings, name), getattr(built.underlyings, name), name
        )


def test_prices_are_those_of_the_view_that_asks(make_view: Callable[..., MarketView]) -> None:
    one, other = make_view(), make_view(mark=[90_000.0, 2_000.0, 1.0])
    prices = [price_instruments(["BTCUSDT"], [], view).price[0] for view in (one, other, one)]
    assert prices == [100_000.0, 90_000.0, 100_000.0]
    assert market_prices(one) is market_prices(one)


def test_a_price_that_waits_is_found_whatever_kind_it_is(
    make_view: Callable[..., MarketView],
) -> None:
    view = quoted(make_view)
    other = suspect_view(view)
    assert other is not None
    assert other.quotes is not None
    assert other.quotes.instruments["ETHUSDT-PERP"].mark == 1.0
    assert view.quotes is not None
    sure = {
        name: dataclasses.replace(quote, suspect_mark=None, suspect_ts=None)
        for name, quote in view.quotes.instruments.items()
    }
    assert suspect_view(dataclasses.replace(view, quotes=QuoteBoard(instruments=sure))) is None
