"""A wall clock that jumps: records stay in one order, and the past changes no level in force."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from decisions.levels_in_force import LevelsInForce
from ledger.verify import verify
from market.core.clock import HOUR, MINUTE, parse_time
from tests.endpoint_fixtures import levels_of

STEPS = 25


class Clock:
    """A wall clock that is set by hand, beside a monotonic one that goes on."""

    def __init__(self, now: int) -> None:
        self.now = now

    def time_ns(self) -> int:
        return self.now


@pytest.mark.parametrize("seed", [1, 2])
def test_records_stay_in_one_order_whatever_the_wall_clock_does(
    serve: Any,
    market: Any,
    champion: str,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    endpoint = serve(clock="wall")
    newest = int(market.features.closes[-1])
    clock = Clock(newest + 5 * MINUTE)
    stub = SimpleNamespace(time_ns=clock.time_ns)
    monkeypatch.setattr("ledger.chain.time", stub)
    monkeypatch.setattr("monitoring.market_state.state.time", stub)
    monkeypatch.setattr("serving.service.time", stub)
    random = np.random.default_rng(seed)
    levels = LevelsInForce(endpoint.ledger)
    latest = 0
    for _ in range(STEPS):
        clock.now += int(random.choice([-HOUR, -10 * MINUTE, 0, MINUTE, HOUR // 2]))
        before = levels_of(levels, account["account_id"]).get(account["account_id"])
        answer = endpoint.score(account)
        assert answer.status_code == 200
        decided = parse_time(answer.json()["decisions"][0]["as_of"])
        assert decided == max(clock.now, newest), "never before what is known"
        after = levels_of(levels, account["account_id"])[account["account_id"]]
        assert after.as_of >= latest, "the level in force went back in time"
        if decided < latest:
            assert before is not None
            assert (after.amount, after.as_of) == (before.amount, before.as_of)
        latest = max(latest, after.as_of)
    page, _ = endpoint.ledger.decisions_of(account["account_id"], 1_000)
    assert len(page) == STEPS
    assert all(one.recorded_at > two.recorded_at for one, two in pairwise(page))
    assert [one.seq for one in page] == sorted((one.seq for one in page), reverse=True)
    assert verify(endpoint.ledger.engine).intact
    assert endpoint.client.get("/health/ready").status_code == 200


def test_a_clock_set_back_ends_no_grace_early_and_none_twice(
    serve: Any,
    market: Any,
    champion: str,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step whose grace runs waits on through a jump back and counts once the time is there."""
    last = len(market.panel.opens) - 1
    endpoint = serve(market.head(last), clock="wall")
    close = int(market.panel.opens[last]) + HOUR
    clock = Clock(close + MINUTE)
    stub = SimpleNamespace(time_ns=clock.time_ns)
    monkeypatch.setattr("ledger.chain.time", stub)
    monkeypatch.setattr("monitoring.market_state.state.time", stub)
    monkeypatch.setattr("serving.service.time", stub)
    body = {"interval": "1h", "bars": [market.bar(last, 0)]}
    assert endpoint.client.post("/v1/market/bars", json=body).status_code == 200
    before = endpoint.live.newest_close
    for step in (-2 * HOUR, HOUR, 59 * MINUTE):
        clock.now += step
        endpoint.client.get("/health/ready")
        assert endpoint.live.newest_close == before
    clock.now = close + 3 * HOUR
    endpoint.score(account)
    assert endpoint.live.newest_close == close
    counted = len(list(endpoint.ledger.records("bars")))
    clock.now = close + MINUTE
    endpoint.score(account)
    assert endpoint.live.newest_close == close
    assert len(list(endpoint.ledger.records("bars"))) == counted
