"""The batch scorer values with the quotes that the endpoint recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import DAY, HOUR, format_time
from market.core.errors import DataError
from monitoring.quotes.quote_updates import QUOTES
from monitoring.recovery.recorded_quotes import RecordedQuotes, recorded_quotes

CASH = ("USD", "USDT")


def post_quotes(endpoint: Any, *quotes: dict[str, Any]) -> None:
    answer = endpoint.client.post("/v1/market/quotes", json={"quotes": list(quotes)})
    assert {result["status"] for result in answer.json()["results"]} == {"applied"}, answer.text


@pytest.fixture
def endpoint(serve: Any, market: Any) -> Any:
    at = int(market.panel.closes[-1])
    found = serve()
    day = datetime.fromtimestamp((at + 30 * DAY) / 1e9, UTC)
    found.expiry = f"BTC-{day.day}{day:%b%y}".upper()
    early, late = format_time(at - 2 * HOUR), format_time(at)
    post_quotes(
        found,
        {
            "instrument": found.expiry,
            "ts": early,
            "forward": 9.0,
            "vols": {"9": 0.5},
        },
        {"instrument": "BTCUSDT-PERP", "ts": early, "mark": 8.0},
        {"instrument": "USDT", "ts": early, "mark": 0.99},
    )
    post_quotes(found, {"instrument": found.expiry, "ts": late, "forward": 10.0})
    return found


def test_board_of_the_batch_is_that_of_the_endpoint(endpoint: Any, market: Any) -> None:
    at = int(market.panel.closes[-1])
    live = endpoint.live.snapshot(at).quotes
    assert live is not None
    assert live.expiries[endpoint.expiry].forward == 10.0
    assert recorded_quotes(endpoint.ledger, market.panel.symbols, CASH, at) == live


def test_later_quotes_are_not_known_before(endpoint: Any, market: Any) -> None:
    at = int(market.panel.closes[-1])
    before = recorded_quotes(endpoint.ledger, market.panel.symbols, CASH, at - HOUR)
    assert before is not None
    assert before.expiries[endpoint.expiry].forward == 9.0
    assert before == endpoint.live.state.quotes.board(at - HOUR)
    assert recorded_quotes(endpoint.ledger, market.panel.symbols, CASH, at - 3 * HOUR) is None


def test_what_fits_no_symbol_of_the_market_is_left_out(endpoint: Any, market: Any) -> None:
    at = int(market.panel.closes[-1])
    bare = recorded_quotes(endpoint.ledger, ["ETHUSDT"], CASH, at)
    assert bare is not None
    assert (dict(bare.expiries), list(bare.instruments)) == ({}, ["USDT"])


def test_record_that_holds_no_quotes_is_an_error_that_names_it(ledger: Ledger) -> None:
    ledger.append([Entry(QUOTES, {"bars": []}, as_of=1)])
    with pytest.raises(DataError, match="does not hold quotes"):
        recorded_quotes(ledger, ["BTCUSDT"], CASH, 2)


def test_boards_of_rising_times_are_those_of_each_time(endpoint: Any, market: Any) -> None:
    at = int(market.panel.closes[-1])
    # Told last, of a time between the two: late where the newest counts, known at its own time.
    told_late = {"instrument": endpoint.expiry, "ts": format_time(at - HOUR), "forward": 9.5}
    endpoint.client.post("/v1/market/quotes", json={"quotes": [told_late]})
    boards = RecordedQuotes(endpoint.ledger, market.panel.symbols, CASH, at)
    for hours in (5, 2, 1, 1, 0):
        time = at - hours * HOUR
        alone = recorded_quotes(endpoint.ledger, market.panel.symbols, CASH, time)
        assert boards.board(time) == alone
        assert (alone is None) == (hours == 5)
    with pytest.raises(DataError, match="in the order of time"):
        boards.board(at - HOUR)
    with pytest.raises(DataError, match="in the order of time"):
        boards.board(at + HOUR)
