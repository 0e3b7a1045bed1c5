"""The market page beside the market that the endpoint was given."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from features.state.market_state import MarketState
from market.core.clock import format_time
from monitoring.market_state.live_market import LiveMarket
from serving.console.rendering import number, percent, time
from tests.endpoint_fixtures import Serve, SmallMarket
from tests.monitoring.quote_helpers import start
from tests.serving.enforcement_fixtures import ROWS, Desk, desk

__all__ = ["desk"]


def page(desk: Desk, path: str = "/market", **headers: str) -> str:
    client = desk.endpoint.client
    answer = client.get(path, headers=desk.key("read") | headers)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_prices_are_the_marks_of_decisions_and_changes_those_of_the_closes(desk: Desk) -> None:
    text = page(desk)
    account = {
        "account_id": "x",
        "cash": 1e6,
        "positions": [{"instrument": "BTCUSDT", "quantity": 1.0}],
    }
    decided = desk.post("/v1/score", {"accounts": [account]}, "score").json()["decisions"][0]
    row = re.search(r'symbol=BTCUSDT">.*', text)
    assert row is not None
    assert f"<td>{number(decided['marks'][0]['price'], 6)}</td>" in row.group()
    bars = desk.endpoint.live.state.received_bars
    closes = [bars[ts][desk_column(desk), 3] for ts in sorted(bars)]
    assert len(closes) >= 25
    for hours in (1, 24):
        change = closes[-1] / closes[-1 - hours] - 1.0
        assert f"<td>{percent(change)}</td>" in row.group()


def desk_column(desk: Desk) -> int:
    return desk.endpoint.live.state.head.symbols.index("BTCUSDT")


def test_its_parts_say_what_is_absent_and_name_every_symbol(desk: Desk) -> None:
    text = page(desk, "/market?symbol=ETHUSDT", **{"X-Fragment": "market"})
    assert "<h1>" not in text
    assert "No option quotes were posted for ETHUSDT" in text
    assert "No step waits" in text
    for symbol in desk.endpoint.live.state.head.symbols:
        assert f"symbol={symbol}" in text
    assert "amihud illiquidity 24h" in text
    assert ROWS > 168
    assert "Correlation of hourly returns" in text


def test_posted_option_quotes_give_a_surface(desk: Desk) -> None:
    quotes = [
        {"instrument": "BTC-25DEC37", "forward": 100_000.0, "rate": 0.0, "vols": {"100000": 0.61}}
    ]
    answer = desk.post("/v1/market/quotes", {"quotes": quotes}, "market")
    assert answer.status_code == 200, answer.text
    text = page(desk, "/market?symbol=BTCUSDT")
    assert "Implied volatility of BTC, a year" in text
    assert "0.61" in text


def test_an_unknown_symbol_is_a_page_of_404_and_escaped(desk: Desk) -> None:
    answer = desk.endpoint.client.get(
        "/market", params={"symbol": "<script>"}, headers=desk.key("read")
    )
    assert answer.status_code == 404
    assert "<script>&#39;" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_it_needs_a_key_that_may_read(desk: Desk) -> None:
    client = desk.endpoint.client
    assert client.get("/market", follow_redirects=False).status_code == 303
    assert client.get("/market", headers=desk.key("venue")).status_code == 403


def test_quotes_of_expiries_and_of_perpetuals_that_wait_for_confirmation_are_marked(
    serve: Serve, market: SmallMarket
) -> None:
    endpoint = serve(live=start(market, ROWS))

    def shown_after(forward: float) -> tuple[str, str]:
        expiry = {"instrument": "BTC-25DEC37", "rate": 0.0, "vols": {"50000": 0.6}}
        quotes = [expiry | {"forward": forward}, {"instrument": "BTCUSDT-PERP", "mark": forward}]
        answer = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes})
        assert answer.status_code == 200, answer.text
        text = endpoint.client.get("/market?symbol=BTCUSDT").text
        perpetual = re.search(r'symbol=BTCUSDT">.*', text)
        expiries = re.search(r"BTC-25DEC37</th>.*", text[text.index('"Quotes of expiries"') :])
        assert perpetual is not None
        assert expiries is not None
        return perpetual.group(), expiries.group()

    state = endpoint.live.state
    mark = float(state.mark[state.head.symbols.index("BTCUSDT")])
    perpetual, expiry = shown_after(mark)
    assert "fresh" in perpetual
    assert "fresh" in expiry
    assert state.newest_close is not None
    assert time(format_time(state.newest_close)) in expiry
    perpetual, expiry = shown_after(3.0 * mark)
    assert "perpetual suspect" in perpetual
    assert "suspect" in expiry


def test_the_correlation_matrix_is_symmetric_with_ones(desk: Desk) -> None:
    figures = re.findall(r'class="figure">(.*?)</script>', page(desk))
    (heat,) = [
        one for one in (json.loads(f)["data"][0] for f in figures) if one["type"] == "heatmap"
    ]
    matrix = heat["z"]
    for i, row in enumerate(matrix):
        assert row[i] == pytest.approx(1.0)
        assert [other[i] for other in matrix] == pytest.approx(row)


@pytest.mark.parametrize(
    ("path", "status"), [("/market", 503), ("/what-if?account=a", 503), ("/model?drift=1", 200)]
)
def test_without_any_bar_pages_say_that_there_is_no_market(
    serve: Serve, market: SmallMarket, champion: str, path: str, status: int
) -> None:
    symbols, interval = market.panel.symbols, market.panel.interval
    live = LiveMarket(MarketState(symbols, interval), np.full(len(symbols), np.nan), None)
    answer = serve(live=live).client.get(path)
    assert answer.status_code == status, answer.text
    assert "the market has no bar yet" in answer.text
