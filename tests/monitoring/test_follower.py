"""The thread that follows: what readiness says while it cannot, and that it goes on after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from market.core.errors import LedgerError
from monitoring.follower import Follower
from tests.monitoring.market_helpers import START
from tests.monitoring.test_shared_market import replica, send, whole_row
from tests.waiting import wait_for


def test_it_follows_and_goes_on_once_the_database_is_back(
    market: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (int(market.panel.closes[START + row]) for row in range(2))
    with replica(market, tmp_path) as a, replica(market, tmp_path) as b:
        follower = Follower(b.market)
        assert "not started" in (follower.health_error() or "")
        with follower:
            send(a.market, market, "bars", (whole_row(0), ""), None)
            wait_for(lambda: b.live.newest_close == first)
            assert follower.health_error() is None
            with monkeypatch.context() as patch:

                def gone() -> Any:
                    raise LedgerError("the database is gone")

                patch.setattr(b.market._chain, "head", gone)
                wait_for(lambda: "cannot be read" in (follower.health_error() or ""))
            send(a.market, market, "bars", (whole_row(1), ""), None)
            wait_for(lambda: b.live.newest_close == second)
            wait_for(lambda: follower.health_error() is None)
        messages = [record.message for record in caplog.records]
        assert sum("is not followed" in message for message in messages) == 1
        assert any("the database is gone" in message for message in messages)
        assert "the market chain is followed again" in messages


def test_an_unexpected_error_does_not_end_the_following(
    market: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica(market, tmp_path) as a, replica(market, tmp_path) as b, Follower(b.market) as f:
        with monkeypatch.context() as patch:
            patch.setattr(b.market._chain, "head", lambda: 1 / 0)
            wait_for(lambda: "unexpected" in (f.health_error() or ""))
        send(a.market, market, "bars", (whole_row(0), ""), None)
        wait_for(lambda: b.live.newest_close == int(market.panel.closes[START]))


def test_readiness_is_unavailable_where_a_record_does_not_fit(
    serve: Any, market: Any, account: dict[str, Any], champion: str
) -> None:
    """Two endpoints on one ledger, one from newer history: it refuses to decide on another market
    than the other one has."""
    old, new = serve(market.head(START)), serve(market.head(START + 3))
    for row in range(3):
        bars = [market.bar(START + row, symbol) for symbol in range(3)]
        assert old.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars}).is_success
    late = market.bar(START + 1, 3) | {"volume": 1.25}
    answer = old.client.post("/v1/market/bars", json={"interval": "1h", "bars": [late]}).json()
    assert [result["status"] for result in answer["results"]] == ["applied"]
    wait_for(lambda: new.client.get("/health/ready").status_code == 503)
    readiness = new.client.get("/health/ready").json()
    assert readiness["status"] == "unavailable"
    assert any("does not fit this market" in reason for reason in readiness["reasons"])
    refused = new.score(account)
    assert refused.status_code == 503
    assert refused.json()["type"].endswith("market-not-followed")
    assert old.score(account).status_code == 200
    assert old.client.get("/health/ready").status_code == 200


def test_scoring_is_refused_where_the_chain_was_cut_or_a_record_meets_a_defect(
    serve: Any,
    market: Any,
    account: dict[str, Any],
    champion: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is no misfit of the market stops decisions as well."""
    a, b = serve(market.head(START)), serve(market.head(START))

    def defect(*_: object) -> None:
        raise IndexError("secret")

    def refused() -> bool:
        answer = b.score(account)
        assert "secret" not in answer.text
        return bool(answer.status_code == 503 and "market-not-followed" in answer.json()["type"])

    bars = [market.bar(START, symbol) for symbol in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(b.live, "follow", defect)
        assert a.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars}).is_success
        wait_for(refused)
        reasons = b.client.get("/health/ready").json()["reasons"]
        assert any("an unexpected error, which is in the log" in reason for reason in reasons)
    wait_for(lambda: b.score(account).status_code == 200)
    with a.ledger.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM records WHERE chain = 'market'")
    wait_for(refused)
