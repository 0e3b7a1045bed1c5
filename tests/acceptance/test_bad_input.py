"""Small bodies that used to stop the service: each is refused or answered, and it goes on.

The endpoint is a process of its own here: a body that makes it spin would stop the tests as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import httpx
import pytest

# Classes of conftest.py, which no test can import, are Any here.
Service: TypeAlias = Any

CONTROL = {
    "account_id": "control",
    "cash": 100_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.5}],
    "collateral": [],
}
SECONDS = 60.0
"""Longest time that any body may take; a machine that is shared is slow now and then."""
AT_ONCE_SECONDS = 5.0
"""Of three attempts at a decision that takes milliseconds, one takes no longer than this."""


@pytest.fixture(scope="module")
def service(standalone: Callable[[], Service]) -> Iterator[Service]:
    """One process for all bodies; one that no longer answers is replaced for the next test."""
    started = standalone()
    yield started
    started.kill()


@pytest.fixture(autouse=True)
def goes_on(service: Service) -> Iterator[None]:
    """After each body a control account is decided at once, and readiness is 200."""
    if not service.answers():
        service.restart()
    yield
    attempts = []
    for _ in range(3):
        before = time.monotonic()
        try:
            answer = service.post("/v1/score", {"accounts": [CONTROL]}, timeout=SECONDS)
        except httpx.HTTPError as error:
            pytest.fail(f"the control account is not answered: {error!r}")
        attempts.append(time.monotonic() - before)
        assert answer.status_code == 200, answer.text
        (decision,) = answer.json()["decisions"]
        assert decision["account_id"] == "control"
        if attempts[-1] < AT_ONCE_SECONDS:
            break
    assert min(attempts) < AT_ONCE_SECONDS, attempts
    ready = service.get("/health/ready")
    assert ready.status_code == 200, ready.text


def account(name: str, **figures: Any) -> dict[str, Any]:
    """An account in one perpetual; figures replace cash, quantity and entry price."""
    position: dict[str, Any] = {"instrument": "BTCUSDT-PERP"}
    position["quantity"] = figures.get("quantity", 1.0)
    if "entry_price" in figures:
        position["entry_price"] = figures["entry_price"]
    return {
        "account_id": name,
        "cash": figures.get("cash", 1_000.0),
        "positions": [position],
        "collateral": figures.get("collateral", []),
    }


def sound(response: httpx.Response) -> Any:
    """The JSON of an answer that is no fault of the service's."""
    assert response.status_code < 500, response.text

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} has no place in JSON")

    return json.loads(response.content, parse_constant=refuse)


def largest(cash: float, side: str = "buy") -> dict[str, Any]:
    return {
        "accounts": [{"account_id": "a", "cash": cash, "positions": [], "collateral": []}],
        "largest": [{"account_id": "a", "instrument": "BTCUSDT-PERP", "side": side}],
    }


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("cash", [1e-312, 5e-324, 2.3e-308, 1e-300, 1e-12, 0.0, -1e-312, 1e300])
def test_the_search_for_a_size_ends_for_any_cash(service: Service, cash: float, side: str) -> None:
    answer = sound(service.post("/v1/what-if", largest(cash, side), timeout=SECONDS))
    if "largest" in answer:
        (found,) = answer["largest"]
        assert found["quantity"] is None or abs(found["quantity"]) < 1e308


def test_forty_five_searches_with_tiny_cash_leave_the_service_answering(service: Service) -> None:
    with ThreadPoolExecutor(45) as pool:
        answers = pool.map(
            lambda _: service.post("/v1/what-if", largest(1e-312), timeout=6 * SECONDS), range(45)
        )
        for answer in answers:
            sound(answer)


BAD_ACCOUNTS: list[dict[str, Any]] = [
    account("bad", quantity=1.65e303),
    account("bad", quantity=-1.65e303),
    account("bad", quantity=1e308),
    account("bad", quantity=5e-324),
    account("bad", quantity=1.0, entry_price=1e308),
    account("bad", quantity=1e10, entry_price=1e299),
    account("bad", quantity=1.0, entry_price=5e-324),
    account("bad", cash=1.7e308),
    account("bad", cash=-1.7e308),
    account("bad", cash=1.7e308, collateral=[{"asset": "USDT", "amount": 1.7e308}]),
    account("bad", collateral=[{"asset": "BTC", "amount": 1e305}]),
    account("bad", collateral=[{"asset": "BTC", "amount": -1e305}]),
]


@pytest.mark.parametrize("bad", BAD_ACCOUNTS, ids=range(len(BAD_ACCOUNTS)))
def test_an_account_out_of_range_does_not_keep_its_neighbours_from_a_decision(
    service: Service, bad: Mapping[str, Any]
) -> None:
    alone = sound(service.post("/v1/score", {"accounts": [CONTROL]}, timeout=SECONDS))
    body = {"accounts": [bad, {**CONTROL, "account_id": "neighbour"}]}
    answer = service.post("/v1/score", body, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    found = sound(answer)
    decided = {decision["account_id"]: decision for decision in found["decisions"]}
    expected = alone["decisions"][0]
    for figure in ("equity", "headroom", "maintenance_margin", "floor", "model_add_on", "cap"):
        assert decided["neighbour"][figure] == expected[figure]
    refused = [error["account_id"] for error in found["errors"]]
    assert ("bad" in decided) != ("bad" in refused)
    for decision in decided.values():
        for figure in ("equity", "add_on", "total_requirement", "opening_requirement", "floor"):
            assert isinstance(decision[figure], float | int)


@pytest.mark.parametrize("bad", BAD_ACCOUNTS, ids=range(len(BAD_ACCOUNTS)))
def test_an_account_out_of_range_alone_is_no_fault_of_the_service(
    service: Service, bad: Mapping[str, Any]
) -> None:
    for body in (
        {"accounts": [bad]},
        {"accounts": [bad], "changes": [{"account_id": "bad", "deposit": 1.7e308}]},
        {"accounts": [bad], "target_headroom": 0.0, "marginal": True},
    ):
        path = "/v1/score" if len(body) == 1 else "/v1/what-if"
        answer = service.post(path, body, timeout=SECONDS)
        sound(answer)
        assert answer.status_code in {200, 422}


FAR_TIMES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1600-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "2262-04-11T23:47:16Z",
    "2262-04-12T00:00:00Z",
    "9999-12-31T23:00:00Z",
    "9999-12-31T23:59:59.999999999-14:00",
]


@pytest.mark.parametrize("time", FAR_TIMES)
def test_a_decision_time_out_of_range_is_a_refusal(service: Service, time: str) -> None:
    body = {"accounts": [CONTROL], "as_of": time}
    for path, rest in (("/v1/score", {}), ("/v1/what-if", {"marginal": True})):
        answer = service.post(path, body | rest, timeout=SECONDS)
        sound(answer)
        assert answer.status_code in {200, 422}, answer.text
    previous = {"amount": 1.0, "as_of": time}
    sound(service.post("/v1/score", {"accounts": [{**CONTROL, "previous_add_on": previous}]}))
    sound(service.get("/v1/ruleset", params={"as_of": time}))


@pytest.mark.parametrize("time", FAR_TIMES)
def test_bars_and_quotes_out_of_range_are_refused_and_leave_no_trace(
    service: Service, time: str
) -> None:
    before = sound(service.post("/v1/score", {"accounts": [CONTROL]}))["decisions"][0]
    prices = {"open": 1e5, "high": 1e5, "low": 1e5, "close": 1e5, "volume": 1.0}
    bar = {"symbol": "BTCUSDT", "ts": time, **prices}
    posted = service.post("/v1/market/bars", {"interval": "1h", "bars": [bar]}, timeout=SECONDS)
    sound(posted)
    quote = {"instrument": "BTCUSDT-PERP", "ts": time, "mark": 1e5}
    sound(service.post("/v1/market/quotes", {"quotes": [quote]}, timeout=SECONDS))
    after = sound(service.post("/v1/score", {"accounts": [CONTROL]}))["decisions"][0]
    for figure in ("as_of", "equity", "headroom", "floor", "probability"):
        assert after[figure] == before[figure]


BODIES = [
    b"",
    b"[]",
    b"null",
    b"{",
    b'{"accounts": [NaN]}',
    b'{"accounts": []}',
    b'{"accounts": [{"account_id": "a", "cash": 1e999, "positions": []}]}',
    b'{"accounts": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"accounts": [{"account_id": "\xff", "cash": 1, "positions": []}]}',
    b'{"accounts": [{"account_id": "\\u0000", "cash": 1, "positions": []}]}',
    b'{"accounts": [{"account_id": "\\ud800", "cash": 1, "positions": []}]}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize(
    "path", ["/v1/score", "/v1/what-if", "/v1/market/bars", "/v1/market/quotes"]
)
def test_a_body_that_is_none_is_a_refusal(service: Service, path: str, body: bytes) -> None:
    answer = service.client.post(
        path, content=body, headers={"Content-Type": "application/json"}, timeout=SECONDS
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_the_service_ends_when_it_is_told_to_after_all_of_this(
    standalone: Callable[[], Service],
) -> None:
    started = standalone()
    with ThreadPoolExecutor(3) as pool:
        searches = [
            pool.submit(started.try_post, "/v1/what-if", largest(1e-312), 2.0) for _ in range(3)
        ]
        for search in searches:
            search.result()
        os.kill(started.process.pid, signal.SIGTERM)
        try:
            started.process.wait(120.0)
        except subprocess.TimeoutExpired:
            pytest.fail("SIGTERM does not end the service")
        finally:
            started.kill()
