from __future__ import annotations

from typing import Any

import pytest

from decisions.replay import replay
from features.state.snapshot import MarketSnapshot
from ledger.following import SharedChain
from ledger.store import Ledger
from margin.rules.history import load_history
from margin.valuation.marks import perpetual_marks
from market.core.clock import DAY, HOUR, MINUTE, format_time
from market.quotes.quotes import QuoteBoard
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.quotes.messages import MAX_QUOTES

URL = "/v1/market/quotes"


def expiry_of(market: Any, days: int = 30) -> str:
    from datetime import UTC, datetime

    day = datetime.fromtimestamp((int(market.panel.closes[-1]) + days * DAY) / 1e9, UTC)
    return f"BTC-{day.day}{day:%b%y}".upper()


@pytest.fixture
def quotes(market: Any) -> list[dict[str, Any]]:
    expiry = expiry_of(market)
    svi = {"a": 0.01, "b": 0.08, "rho": -0.4, "m": 0.05, "sigma": 0.2}
    return [
        {"instrument": expiry, "forward": 60_000.1, "rate": 0.1 + 0.2, "svi": svi},
        {"instrument": f"{expiry}-60000-C", "vol": 1 / 3, "mark": 2_000.0, "confidence": 0.9},
        {"instrument": "BTCUSDT-PERP", "mark": 60_001.0, "funding": 1e-4, "interval_hours": 4},
        {"instrument": "BTCUSDT", "mark": 60_000.0, "implied_vol": 0.5, "open_interest": 9.0},
        {"instrument": "USDT", "mark": 0.999},
    ]


def test_posted_quotes_are_applied_recorded_and_counted(
    serve: Any, market: Any, quotes: list[dict[str, Any]]
) -> None:
    endpoint = serve(market.head(len(market.panel) - 1))
    last = len(market.panel) - 1
    body = {"interval": "1h", "bars": market.bars(range(last, last + 1))}
    endpoint.client.post("/v1/market/bars", json=body)
    metrics = endpoint.client.get("/metrics").text
    assert "margincast_quote_age_seconds NaN" in metrics.splitlines()
    answer = endpoint.client.post(URL, json={"quotes": quotes})
    assert answer.status_code == 200
    newest = format_time(int(market.panel.closes[-1]))
    assert answer.json() == {
        "results": [
            {"instrument": quote["instrument"], "ts": newest, "status": "applied"}
            for quote in quotes
        ],
        "as_of": newest,
    }
    (record,) = endpoint.ledger.records("quotes")
    assert record.payload["quotes"] == [quote | {"ts": newest} for quote in quotes]
    again = endpoint.client.post(URL, json={"quotes": [*quotes, {"instrument": "XRPUSDT"}]}).json()
    assert [result["status"] for result in again["results"]] == ["duplicate"] * 5 + ["rejected"]
    assert len(list(endpoint.ledger.records("quotes"))) == 1
    text = endpoint.client.get("/metrics").text.splitlines()
    assert 'margincast_quotes_total{status="applied"} 5.0' in text
    assert 'margincast_quotes_total{status="duplicate"} 5.0' in text
    assert 'margincast_quotes_total{status="rejected"} 1.0' in text
    assert "margincast_quote_age_seconds 0.0" in text


def test_a_decision_carries_the_quotes_and_replays_to_the_last_bit(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any], quotes: list[dict[str, Any]]
) -> None:
    endpoint = serve()
    bare = endpoint.score(account).json()["decisions"][0]
    endpoint.client.post(URL, json={"quotes": quotes})
    quoted = endpoint.score(account).json()["decisions"][0]
    board = endpoint.live.snapshot(endpoint.live.newest_close).quotes
    contents = endpoint.ledger.get_record(quoted["decision_id"]).payload["contents"]
    recorded = endpoint.ledger.get(contents["quotes_sha256"])
    assert QuoteBoard.from_content(recorded) == board
    without = endpoint.ledger.get_record(bare["decision_id"]).payload["contents"]
    assert set(without) == {"market_sha256", "ruleset_sha256"}
    for decision in (bare, quoted):
        found = replay(
            endpoint.ledger,
            decision["decision_id"],
            lambda sha: Forecaster(load_bundle(bundles.root / sha)),
        )
        assert found.equal, found.differences


@pytest.mark.parametrize(
    ("mark_max_age", "quoted"), [(None, True), (29 * MINUTE, False), (30 * MINUTE, True)]
)
def test_a_mark_counts_up_to_the_configured_age_and_the_record_names_the_limit(
    serve: Any, market: Any, account: dict[str, Any], mark_max_age: int | None, quoted: bool
) -> None:
    endpoint = serve(mark_max_age=mark_max_age)
    close = int(market.panel.closes[-1])
    mark = float(endpoint.live.state.mark[market.panel.symbols.index("BTCUSDT")]) * 1.001
    quote = {"instrument": "BTCUSDT-PERP", "mark": mark, "ts": format_time(close + MINUTE)}
    posted = endpoint.client.post(URL, json={"quotes": [quote]}).json()
    assert posted["results"][0]["status"] == "applied"
    as_of = format_time(close + 31 * MINUTE)
    decision = endpoint.score(account, as_of=as_of).json()["decisions"][0]
    named = endpoint.ledger.get_record(decision["decision_id"]).payload["contents"]
    content = endpoint.ledger.get(named["market_sha256"])
    assert content.get("mark_max_age") == mark_max_age
    board = QuoteBoard.from_content(endpoint.ledger.get(named["quotes_sha256"]))
    snapshot = MarketSnapshot.from_content(content, close + 31 * MINUTE, board)
    used = perpetual_marks(snapshot.view())
    assert used.quoted[market.panel.symbols.index("BTCUSDT")] == quoted


def test_a_market_and_quotes_that_do_not_change_are_recorded_once_for_many_decisions(
    serve: Any, account: dict[str, Any], quotes: list[dict[str, Any]]
) -> None:
    endpoint = serve(clock="wall")
    endpoint.client.post(URL, json={"quotes": quotes[3:]})
    named = set()
    for _ in range(3):
        decision = endpoint.score(account).json()["decisions"][0]
        contents = endpoint.ledger.get_record(decision["decision_id"]).payload["contents"]
        named.add((contents["market_sha256"], contents["quotes_sha256"]))
    assert len(named) == 1


def test_the_decision_time_is_that_of_the_newest_quote_or_one_that_is_named(
    serve: Any, market: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = int(market.panel.closes[-1])
    later = format_time(newest + 10 * MINUTE)
    body = {"quotes": [{"instrument": "USDT", "mark": 0.9, "ts": later}]}
    assert endpoint.client.post(URL, json=body).json()["as_of"] == later
    assert endpoint.score(account).json()["decisions"][0]["as_of"] == later
    earlier = endpoint.score(account, as_of=format_time(newest + MINUTE)).json()
    (decision,) = earlier["decisions"]
    contents = endpoint.ledger.get_record(decision["decision_id"]).payload["contents"]
    assert "quotes_sha256" not in contents
    for i in range(20):
        body["quotes"][0] |= {"mark": 0.8, "ts": format_time(newest + (11 + i) * MINUTE)}
        endpoint.client.post(URL, json=body)
    refused = endpoint.score(account, as_of=format_time(newest + MINUTE))
    assert refused.status_code == 422
    assert "USDT" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"quotes": []}, "length >= 1"),
        ({"quotes": [{"instrument": "USDT", "mark": 1.0}] * (MAX_QUOTES + 1)}, "length <= 5000"),
        ({"quotes": [{"instrument": "BTC-27MAR26", "forwrd": 1.0}]}, "forwrd"),
        ({"quotes": [{"instrument": "USDT", "mark": "1.0"}]}, "$.quotes[0].mark"),
        ({"quotes": [{"mark": 1.0}]}, "instrument"),
        ({"quotes": [{"instrument": "BTC-27MAR26", "svi": {"a": 1}}]}, "svi"),
        (
            {
                "quotes": [
                    {"instrument": "BTC-27MAR26", "vols": {str(k): 0.5 for k in range(1, 1_002)}}
                ]
            },
            "$.quotes[0].vols",
        ),
        ({}, "quotes"),
    ],
)
def test_a_body_that_does_not_fit_is_a_422_that_names_the_place(
    serve: Any, body: dict[str, Any], named: str
) -> None:
    answer = serve().client.post(URL, json=body)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:margincast:problem:invalid-request"
    assert named in answer.json()["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_422(serve: Any, number: str) -> None:
    body = f'{{"quotes": [{{"instrument": "USDT", "mark": {number}}}]}}'
    answer = serve().client.post(URL, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_too_long_a_body_is_413(serve: Any) -> None:
    body = {"quotes": [{"instrument": "USDT", "mark": 1.0}] * 100}
    answer = serve(max_body_bytes=1_000).client.post(URL, json=body)
    assert answer.status_code == 413
    assert "quotes" in answer.json()["detail"]


def test_quotes_that_cannot_be_recorded_are_503_and_do_not_count(
    serve: Any, monkeypatch: pytest.MonkeyPatch, quotes: list[dict[str, Any]]
) -> None:
    from market.core.errors import LedgerError

    endpoint = serve()

    def full(*_: Any, **__: Any) -> None:
        raise LedgerError("full")

    with monkeypatch.context() as broken:
        broken.setattr(SharedChain, "append", full)
        assert endpoint.client.post(URL, json={"quotes": quotes}).status_code == 503
    assert endpoint.live.state.quotes.newest is None
    retried = endpoint.client.post(URL, json={"quotes": quotes}).json()
    assert {result["status"] for result in retried["results"]} == {"applied"}


def test_a_restarted_endpoint_knows_the_quotes(
    serve: Any, market: Any, account: dict[str, Any], quotes: list[dict[str, Any]], ledger: Ledger
) -> None:
    start = market.head(200)
    first = serve(start)
    first.client.post(URL, json={"quotes": quotes})
    body = {"interval": "1h", "bars": market.bars(range(200, 202))}
    first.client.post("/v1/market/bars", json=body)
    second = serve(start)
    as_of = second.live.newest_close
    before, after = (each.live.snapshot(as_of) for each in (first, second))
    assert after.content() == before.content()
    assert after.quotes == before.quotes
    assert after.quotes is not None


def test_posted_context_ends_what_readiness_misses(serve: Any, market: Any, bundles: Any) -> None:
    bundles.promote(bundles.write(with_context=True))
    start = len(market.panel) - 26
    endpoint = serve(market.head(start))
    (reason,) = endpoint.client.get("/health/ready").json()["reasons"]
    assert "POST /v1/market/quotes" in reason
    for row in range(start, len(market.panel)):
        ts = format_time(int(market.panel.opens[row]) + HOUR // 2)
        quotes = [
            {"instrument": f"{name}-PERP", "mark": 1.01, "funding": 1e-4, "implied_vol": 0.6}
            | {"open_interest": 1e5 + row, "ts": ts}
            for name in market.panel.symbols
        ]
        spots = [{"instrument": name, "mark": 1.0, "ts": ts} for name in market.panel.symbols]
        svi = {"a": 0.01, "b": 0.08, "rho": -0.4, "m": 0.05, "sigma": 0.2}
        expiries = [
            {"instrument": expiry_of(market, days), "forward": 1.0, "svi": svi, "ts": ts}
            for days in (7, 30, 60, 90)
        ]
        endpoint.client.post(URL, json={"quotes": quotes + spots + expiries})
        body = {"interval": "1h", "bars": market.bars(range(row, row + 1))}
        endpoint.client.post("/v1/market/bars", json=body)
    ready = endpoint.client.get("/health/ready").json()
    assert ready == {"status": "ready", "reasons": []}


def test_the_route_is_documented_with_its_units(serve: Any) -> None:
    document = serve().client.get("/docs/openapi.json").json()
    operation = document["paths"][URL]["post"]
    assert "cash asset" in operation["description"]
    expected = {"200", "401", "403", "409", "413", "415", "422", "429", "503"}
    assert expected == set(operation["responses"])
    fields = document["components"]["schemas"]["QuoteIn"]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []


@pytest.mark.parametrize("preset", ["linear-tiers", "hyperliquid", "binance-usdm", "emir-tiers"])
def test_posted_marks_move_the_decision_under_brackets(
    serve: Any, market: Any, preset: str
) -> None:
    endpoint = serve(rules=load_history(preset))
    body = {
        "account_id": "a",
        "cash": 100_000.0,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0, "entry_price": 1_000.0}],
        "collateral": [],
    }
    before = endpoint.score(body).json()["decisions"][0]
    close = before["equity"] - 100_000.0 + 1_000.0
    quotes = [{"instrument": name, "mark": 0.9 * close} for name in ("BTCUSDT", "BTCUSDT-PERP")]
    endpoint.client.post(URL, json={"quotes": quotes})
    after = endpoint.score(body).json()["decisions"][0]
    assert after["equity"] == pytest.approx(before["equity"] - 0.1 * close)
    assert after["maintenance_margin"] < before["maintenance_margin"]
    assert after["headroom"] == pytest.approx(after["equity"] - after["maintenance_margin"])
