"""Waiting steps and corrections at the endpoint."""

from __future__ import annotations

from typing import Any

from decisions.replay import replay
from market.core.clock import DAY, format_time
from market.sources.http import BarIn, bar_updates
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.market_state.steps import StepRule

START = 220


def at(market: Any, row: int) -> int:
    return int(market.panel.closes[row])


def test_endpoint_names_the_steps_that_wait_and_what_they_lack(serve: Any, market: Any) -> None:
    endpoint = serve(market.head(START))
    bars = market.bars(range(START, START + 1))
    body = {"interval": "1h", "bars": bars[:1]}
    answer = endpoint.client.post("/v1/market/bars", json=body).json()
    assert answer["results"][0]["status"] == "applied"
    reasons = endpoint.client.get("/health/ready").json()["reasons"]
    (waits,) = [reason for reason in reasons if "for a quorum" in reason]
    assert waits.startswith("1 step waits for a quorum of 3 bars, 4 symbols are live")
    lacking = ", ".join(bar["symbol"] for bar in bars[1:])
    assert waits.endswith(f"{bars[0]['ts']} lacks {lacking}")
    final = endpoint.client.post("/v1/market/bars", json=body | {"final": True}).json()
    assert final["as_of"] == format_time(at(market, START))
    reasons = endpoint.client.get("/health/ready").json()["reasons"]
    assert not any("quorum" in reason for reason in reasons)


def test_corrections_need_the_scope_admin(serve: Any, market: Any) -> None:
    endpoint = serve(market.head(START), auth="keys")
    bars = market.bars(range(START, START + 1))
    body = {"interval": "1h", "bars": bars, "final": True}
    feed, admin = endpoint.key("market"), endpoint.key("admin")
    assert endpoint.client.post("/v1/market/bars", json=body, headers=feed).status_code == 200
    changed = {"interval": "1h", "bars": [bars[0] | {"volume": 3.0}], "correct": True}
    refused = endpoint.client.post("/v1/market/bars", json=changed, headers=feed)
    assert refused.status_code == 403
    assert "this needs admin" in refused.json()["detail"]
    answer = endpoint.client.post("/v1/market/bars", json=changed, headers=admin)
    assert answer.json()["results"][0]["status"] == "corrected"


def test_decisions_before_a_correction_replay(
    serve: Any, market: Any, account: dict[str, Any], champion: str, bundles: Any
) -> None:
    endpoint = serve(market.head(START))
    bars = market.bars(range(START, START + 1))
    account = account | {"positions": [{**leg, "entry_price": 1e3} for leg in account["positions"]]}
    endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars, "final": True})
    before = endpoint.score(account).json()["decisions"][0]
    changed = bars[0] | {"close": bars[0]["low"]}
    body = {"interval": "1h", "bars": [changed], "correct": True}
    endpoint.client.post("/v1/market/bars", json=body)
    again = endpoint.score(account).json()["decisions"][0]
    assert again["equity"] == before["equity"]
    rest = [bar for bar in market.bars(range(START + 1, START + 2)) if bar["symbol"] != "BTCUSDT"]
    endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": rest})
    after = endpoint.score(account).json()["decisions"][0]
    assert after["equity"] != before["equity"]
    model = Forecaster(load_bundle(bundles.root / champion))
    for decision in (before, again, after):
        assert replay(endpoint.ledger, decision["decision_id"], lambda _: model).equal


def test_decision_on_the_wall_clock_records_the_step_whose_grace_is_over(
    serve: Any, market: Any, account: dict[str, Any]
) -> None:
    live = market.head(START).live(StepRule(grace=0))
    endpoint = serve(market.head(START), live=live, clock="wall")
    first, second = (market.bar(row, 0) for row in (START, START + 1))
    live.post("1h", bar_updates([BarIn(**first)]).updates, now=at(market, START))
    assert live.newest_close == at(market, START), "its grace is over when it comes"
    slow = market.head(START).live(StepRule(grace=30 * DAY))
    endpoint = serve(market.head(START), live=slow, clock="wall")
    slow.post("1h", bar_updates([BarIn(**second)]).updates, now=at(market, START + 1))
    assert slow.newest_close == at(market, START - 1)
    endpoint.score(account)
    assert slow.newest_close == at(market, START + 1)
    *_, record = endpoint.ledger.records("bars")
    assert record.payload["bars"] == []
    assert record.payload["steps"] == [
        {"ts": second["ts"], "reason": "grace", "symbols": [second["symbol"]]}
    ]
