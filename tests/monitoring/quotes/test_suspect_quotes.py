"""Quoted prices that the outlier filter suspects or rejects, and what confirms them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from features.state.snapshot import MarketSnapshot
from ledger.records import Entry
from margin.valuation.marks import perpetual_marks, spot_marks, suspect_view
from market.bars.panel import BASIS
from market.core.clock import DAY, HOUR, MINUTE, SECOND, format_time
from market.quotes.quotes import InstrumentQuote
from tests.monitoring.quote_helpers import (
    BTC,
    PERP,
    START,
    bar,
    board,
    close_of,
    mark,
    post_bars,
    post_quotes,
    price_of,
    quote_of,
    start,
    statuses,
)


@pytest.mark.parametrize("name", [BTC, PERP, "USDT"])
@pytest.mark.parametrize("gap", [0, 3 * HOUR, DAY - MINUTE])
def test_impossible_price_is_rejected_at_the_first_quote_and_after_a_gap(
    market: Any, name: str, gap: int
) -> None:
    live = start(market)
    at = close_of(live) + gap
    response = post_quotes(live, [mark(name, 1e-15, at), mark(name, 1e12, at + 1)])
    assert statuses(response) == ["rejected"] * 2
    assert "beyond a factor of 5 from the last good price" in str(response.results[0].detail)
    assert live.state.quotes.newest is None, "nothing of it is kept"


def test_rejected_price_rejects_the_other_fields_of_its_quote(market: Any) -> None:
    live = start(market)
    quote = mark(PERP, 1e-15, close_of(live)) | {"funding": 0.001}
    assert statuses(post_quotes(live, [quote])) == ["rejected"]
    assert live.snapshot(close_of(live)).quotes is None


def test_suspect_mark_leaves_the_last_good_one_and_is_shown_beside_it(market: Any) -> None:
    live = start(market)
    entries: list[Entry] = []
    at, price = close_of(live), price_of(live)
    assert statuses(post_quotes(live, [mark(PERP, price, at)])) == ["applied"]
    suspect = mark(PERP, 0.65 * price, at + MINUTE) | {"funding": 0.001}
    response = post_quotes(live, [suspect], record=entries.extend)
    assert statuses(response) == ["suspect"]
    assert "-35.0% from the last good price" in str(response.results[0].detail)
    found = quote_of(live, PERP)
    assert (found.mark, found.ts) == (price, at)
    assert (found.suspect_mark, found.suspect_ts) == (0.65 * price, at + MINUTE)
    assert found.funding == 0.001 / 8
    (entry,) = entries
    assert isinstance(entry, Entry)
    assert entry.payload["results"][0]["status"] == "suspect"
    assert entry.payload["suspects"] == [[PERP, "mark", at + MINUTE, 0.65 * price, at + MINUTE]]
    assert statuses(post_quotes(live, [suspect])) == ["duplicate"]
    good = post_quotes(live, [mark(PERP, 0.99 * price, at + 2 * MINUTE)])
    assert statuses(good) == ["applied"]
    assert quote_of(live, PERP).suspect_mark is None, "a bad tick is forgotten"


def test_second_source_confirms_both_marks(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    post_quotes(live, [mark(BTC, price, at + MINUTE)])
    response = post_quotes(live, [mark(PERP, 0.99 * price, at + 2 * MINUTE)])
    assert statuses(response) == ["applied"]
    assert f"confirms {BTC} of" in str(response.results[0].detail)
    assert quote_of(live, BTC) == InstrumentQuote(at + MINUTE, price)
    assert quote_of(live, PERP).mark == 0.99 * price
    # As of its time: between the two it was suspect.
    earlier = quote_of(live, BTC, at + MINUTE + SECOND)
    assert (earlier.mark, earlier.suspect_mark) == (None, price)


def test_marks_that_agree_in_one_post_are_both_applied(market: Any) -> None:
    live = start(market)
    entries: list[Entry] = []
    at, price = close_of(live), 0.65 * price_of(live)
    both = [mark(BTC, price, at), mark(PERP, price, at)]
    response = post_quotes(live, both, record=entries.extend)
    assert statuses(response) == ["applied", "applied"]
    assert response.results[0].detail == "mark confirmed by a second source"
    assert {quote_of(live, name).mark for name in (BTC, PERP)} == {price}


def test_crash_in_one_source_alone_is_confirmed_by_time(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for minute, expected in ((0, "suspect"), (4, "suspect"), (5, "applied")):
        quote = mark(PERP, price * (1 - minute / 1e3), at + minute * MINUTE)
        assert statuses(post_quotes(live, [quote])) == [expected]
    assert quote_of(live, PERP).mark == price * 0.995
    assert quote_of(live, PERP).suspect_mark is None


def test_stuck_feed_never_confirms_itself(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for minute in range(0, 60, 3):
        quote = mark(PERP, price, at + minute * MINUTE)
        assert statuses(post_quotes(live, [quote])) == ["suspect"]
    assert quote_of(live, PERP).mark is None


def test_depegged_coin_waits_and_counts_once_it_stays_there(market: Any) -> None:
    live = start(market)
    at = close_of(live)
    prices = [(0, 0.999), (1, 0.87), (2, 0.88), (6, 0.86), (7, 0.99)]
    found = [
        statuses(post_quotes(live, [mark("USDT", value, at + minute * MINUTE)]))[0]
        for minute, value in prices
    ]
    assert found == ["applied", "suspect", "suspect", "applied", "suspect"]
    assert quote_of(live, "USDT").mark == 0.86


def test_forward_is_compared_with_its_underlying(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), price_of(live)
    day = np.datetime64(at + 30 * DAY, "ns").astype("datetime64[s]").item()
    expiry = f"BTC-{day.day}{day:%b%y}".upper()
    quotes = [
        {"instrument": expiry, "forward": value, "ts": format_time(at + i)}
        for i, value in enumerate((1e-15, 0.65 * price, 1.01 * price, 0.66 * price))
    ]
    assert statuses(post_quotes(live, quotes)) == ["rejected", "suspect", "applied", "suspect"]
    found = board(live).expiries[expiry]
    assert (found.forward, found.suspect_forward) == (1.01 * price, 0.66 * price)
    confirming = [mark(name, 0.65 * price, at + MINUTE) for name in (BTC, PERP)]
    assert statuses(post_quotes(live, confirming)) == ["applied"] * 2
    found = board(live).expiries[expiry]
    assert (found.forward, found.suspect_forward) == (0.66 * price, None)


def test_suspect_prices_never_enter_exogenous_series(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), price_of(live)
    post_quotes(live, [mark(BTC, price, at + MINUTE), mark(PERP, 0.7 * price, at + MINUTE)])
    assert np.isnan(live.state.quote_series[at][0, BASIS])
    post_quotes(live, [mark(PERP, 1.001 * price, at + 2 * MINUTE)])
    assert live.state.quote_series[at][0, BASIS] == pytest.approx(np.log(1.001))


def test_market_without_a_filter_takes_quotes_as_they_are(market: Any) -> None:
    live = market.head(START).live()
    assert statuses(post_quotes(live, [mark(PERP, 1e-15, close_of(live))])) == ["applied"]


def test_suspect_view_holds_every_price_that_waits(market: Any) -> None:
    live = start(market)
    at = close_of(live)
    btc, eth, sol = (price_of(live, column) for column in range(3))
    symbols = live.state.head.symbols
    post_bars(live, [bar(live, 0.6 * btc), bar(live, eth, symbol=symbols[1])])
    post_quotes(
        live,
        [
            mark(f"{symbols[1]}-PERP", 0.7 * eth, at + HOUR + MINUTE),
            mark(symbols[2], sol, at + HOUR + MINUTE),
        ],
    )
    snapshot = live.snapshot(at + HOUR + 2 * MINUTE)
    read = MarketSnapshot.from_content(snapshot.content(), snapshot.as_of, snapshot.quotes)
    for view in (snapshot.view(), read.view()):
        assert spot_marks(view).price[:3].tolist() == [btc, eth, sol]
        assert perpetual_marks(view).price[:2].tolist() == [btc, eth]
        suspect = suspect_view(view)
        assert suspect is not None
        assert spot_marks(suspect).price[:3].tolist() == [0.6 * btc, eth, sol]
        assert perpetual_marks(suspect).price[:2].tolist() == [0.6 * btc, 0.7 * eth]
        assert suspect_view(suspect) is None


def test_suspect_view_is_none_where_nothing_waits(market: Any) -> None:
    live = start(market)
    post_quotes(live, [mark(PERP, price_of(live), close_of(live))])
    assert suspect_view(live.snapshot(close_of(live)).view()) is None


def test_endpoint_answers_names_and_counts_suspect_prices(
    market: Any, serve: Any, champion: str
) -> None:
    live = start(market)
    endpoint = serve(live=live)
    at, price = close_of(live), price_of(live)
    quotes = [mark(PERP, 0.65 * price, at), mark("USDT", 1e-15, at)]
    answer = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes}).json()
    assert [result["status"] for result in answer["results"]] == ["suspect", "rejected"]
    endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": [bar(live, 2 * price)]})
    ready = endpoint.client.get("/health/ready").json()
    assert ready["status"] == "degraded"
    (reason,) = (text for text in ready["reasons"] if "suspect" in text)
    assert f"2 suspect price(s) wait for confirmation: bar of {BTC} at" in reason
    assert f"{PERP} at" in reason
    figures = endpoint.client.get("/metrics").text
    assert "margincast_suspect_prices 2.0" in figures
    assert 'margincast_quotes_total{status="suspect"} 1.0' in figures
    assert 'margincast_quotes_total{status="rejected"} 1.0' in figures


def test_impossible_marks_move_no_account(market: Any, serve: Any, champion: str) -> None:
    """A perpetual at 1e-15 gave a short account a fortune, a coin at 1e-15 gave it to anyone."""
    endpoint = serve(live=start(market))
    at = close_of(endpoint.live)
    short = {
        "account_id": "short",
        "cash": 5_000.0,
        "positions": [{"instrument": PERP, "quantity": -1.0}],
    }
    before = endpoint.score(short).json()["decisions"][0]
    quotes = [mark(PERP, 1e-15, at), mark("USDT", 1e-15, at)]
    endpoint.client.post("/v1/market/quotes", json={"quotes": quotes})
    after = endpoint.score(short).json()["decisions"][0]
    assert after["equity"] == before["equity"] == 5_000.0
    assert after["headroom"] == before["headroom"]
