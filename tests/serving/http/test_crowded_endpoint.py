"""The endpoint over real sockets while what-ifs, large calls and a hung ledger load it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import pytest

from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from serving.admission import lanes
from serving.http.app import create_app
from serving.http.connections import ConnectionLimits
from serving.service import Service
from serving.settings import ServingSettings
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.serving.http.small_endpoint import Endpoint
from tests.waiting import WAIT_SECONDS

Start = Callable[..., Endpoint]
WAITING = 8
"""What-ifs that may wait here: as many as in service could wait longer than a call may."""


@pytest.fixture
def start(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger, champion: str
) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(drain_seconds: float = 0.0, **options: Any) -> Endpoint:
            settings = ServingSettings(
                "127.0.0.1", 8000, bundles.root, clock="market", auth="off", **options
            )
            held = RuleHistory.constant(ruleset)
            endpoint = Endpoint(
                ConnectionLimits(drain_seconds=drain_seconds),
                lambda: create_app(settings, ledger, held, market.live()),
            )
            stack.callback(endpoint.end)
            return endpoint

        yield start


def ask(
    endpoint: Endpoint, path: str, body: object = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, answer and headers, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", endpoint.port, timeout=WAIT_SECONDS)
    sent = {"Content-Type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    method = "GET" if body is None else "POST"
    connection.request(method, path, None if body is None else json.dumps(body), sent)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text, {k.lower(): v for k, v in response.getheaders()}


def what_if(account: dict[str, Any], count: int) -> dict[str, Any]:
    accounts = [{**account, "account_id": f"a{i}"} for i in range(count)]
    return {"accounts": accounts, "changes": [{"account_id": "a0", "deposit": 1.0}]}


def test_what_ifs_in_masses_delay_neither_health_nor_scores_nor_look_ups(
    start: Start, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MOST_SLOW_WAITING", WAITING)
    endpoint = start()
    body, answers = what_if(account, 800), []
    began = time.monotonic()
    assert ask(endpoint, "/v1/what-if", body)[0] == 200
    alone = time.monotonic() - began

    def send() -> None:
        answers.append(ask(endpoint, "/v1/what-if", body))

    callers = [threading.Thread(target=send) for _ in range(WAITING + 7)]
    for caller in callers:
        caller.start()
    took = []
    others: list[tuple[str, object]] = [(path, None) for path in ("/health/live", "/health/ready")]
    others += [("/v1/ruleset", None), ("/v1/model", None), ("/v1/score", {"accounts": [account]})]
    while any(caller.is_alive() for caller in callers):
        for path, sent in others:
            began = time.monotonic()
            assert ask(endpoint, path, sent)[0] == 200
            took.append(time.monotonic() - began)
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(answers) - len(refused) > WAITING, "one at a time, and those waiting"
    for status, text, headers in refused:
        assert status == 503
        assert 1 <= int(headers["retry-after"]) <= 120
        assert json.loads(text)["type"] == "urn:margincast:problem:overloaded"
    assert len(took) > 5
    assert sorted(took)[len(took) // 2] < max(1.0, 2.0 * alone), "none waits for those before it"


def test_a_what_if_of_too_many_accounts_is_422_and_says_how_many_are_taken(
    start: Start, account: dict[str, Any]
) -> None:
    endpoint = start(what_if_accounts=10)
    assert ask(endpoint, "/v1/what-if", what_if(account, 10))[0] == 200
    status, text, _ = ask(endpoint, "/v1/what-if", what_if(account, 11))
    assert status == 422
    assert "at most 10" in json.loads(text)["detail"]
    explained = what_if(account, 6) | {"explain": True}
    status, text, _ = ask(endpoint, "/v1/what-if", explained)
    assert status == 422
    assert "twice" in json.loads(text)["detail"]


def test_a_score_call_past_its_deadline_is_503_and_not_on_record(
    start: Start, account: dict[str, Any], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may = threading.Event(), threading.Event()
    score_many = Service.score_many

    def held(service: Service, calls: Sequence[Any]) -> Any:
        entered.set()
        assert may.wait(WAIT_SECONDS)
        return score_many(service, calls)

    monkeypatch.setattr(Service, "score_many", held)
    endpoint = start()
    first = threading.Thread(target=lambda: ask(endpoint, "/v1/score", {"accounts": [account]}))
    first.start()
    assert entered.wait(WAIT_SECONDS)
    status, text, headers = ask(
        endpoint,
        "/v1/score",
        {"accounts": [{**account, "account_id": "late"}]},
        Request_Timeout="0.001",
        Idempotency_Key="k",
    )
    may.set()
    first.join()
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(text)["type"] == "urn:margincast:problem:deadline"
    assert ledger.decisions_of("late", 10, None)[0] == []
    again = {"accounts": [{**account, "account_id": "late"}]}
    status, _, headers = ask(endpoint, "/v1/score", again, Idempotency_Key="k")
    assert status == 200
    assert "idempotent-replayed" not in headers, "the refused call left no answer"


def test_a_deadline_that_is_no_time_is_422(start: Start, account: dict[str, Any]) -> None:
    endpoint = start()
    for path, body in (
        ("/v1/score", {"accounts": [account]}),
        ("/v1/what-if", what_if(account, 1)),
    ):
        status, text, _ = ask(endpoint, path, body, Request_Timeout="soon")
        assert status == 422
        assert "Request-Timeout" in json.loads(text)["detail"]


def test_a_stop_is_readiness_down_first_and_answers_go_on(
    start: Start, account: dict[str, Any]
) -> None:
    endpoint = start(drain_seconds=6.0)
    assert ask(endpoint, "/health/ready")[0] == 200
    connection = HTTPConnection("127.0.0.1", endpoint.port, timeout=WAIT_SECONDS)
    connection.connect()
    second = HTTPConnection("127.0.0.1", endpoint.port, timeout=WAIT_SECONDS)
    second.connect()
    for opened in (connection, second):
        opened.request("GET", "/health/live")
        assert opened.getresponse().read()
    endpoint.stop()
    while (ready := ask(endpoint, "/health/ready"))[0] == 200:  # refused once it has stopped
        time.sleep(0.02)
    assert (ready[0], json.loads(ready[1])["status"]) == (503, "unavailable")
    second.request(
        "POST",
        "/v1/score",
        json.dumps({"accounts": [account]}),
        {"Content-Type": "application/json"},
    )
    answer = second.getresponse()
    assert answer.status == 200
    assert answer.getheader("connection") == "close"
    assert len(json.loads(answer.read())["decisions"]) == 1
    for opened in (connection, second):
        opened.close()
    endpoint.thread.join(WAIT_SECONDS)
    assert not endpoint.thread.is_alive()
