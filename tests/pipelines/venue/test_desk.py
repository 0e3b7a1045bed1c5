"""The venue as a receiver: signed webhooks in; deposits, disputes, fills and answers out."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from enforcement.delivery.signature import signed_headers
from enforcement.delivery.worker import DeliveryWorker
from ledger.store import Ledger
from market.accounts.book import Account, Position
from market.core.clock import HOUR, SECOND, format_time, parse_time
from pipelines.config.config import load_config
from pipelines.venue.client_activity import ClientActivity
from pipelines.venue.client_answers import answer_call
from pipelines.venue.desk import Desk
from pipelines.venue.inbox import Inbox
from pipelines.venue.notified_venue import SINK, open_inbox, with_venue
from tests.enforcement.delivery.receiver import SECRET, call_event, put, statuses
from tests.enforcement.delivery.test_worker import QUICK
from tests.waiting import wait_for

NOW = parse_time("2025-04-01T00:00:00Z")
MARK = 50_000.0


class Prices:
    """A market that stands still."""

    def price(self, instrument: str, time: int) -> float:
        return MARK

    def turnover(self, instrument: str, time: int) -> float:
        return 1e12


class Endpoint:
    """Applies updates by their numbers, and takes commands."""

    def __init__(self, ahead: int = 0, times: int = 1) -> None:
        self.posts: list[tuple[str, Mapping[str, Any]]] = []
        self.acknowledged: list[tuple[str, Mapping[str, Any]]] = []
        """Calls, beside the other posts."""
        self._taken = [ahead] * times
        """Numbers that another sender took before each of the next updates."""

        self.calls: dict[str, str] = {}
        """State of the call of each account that has one."""
        self.states: dict[str, str] = {}
        """Of instructions that are not issued alone."""

    def another(self) -> Endpoint:
        return self

    def get(self, path: str) -> tuple[int, dict[str, Any]] | None:
        if path.startswith("/v1/calls?"):
            return 200, self._page(dict(parse_qsl(path.partition("?")[2])))
        state = self.states.get(path, "issued")
        return (404, {}) if state == "unknown" else (200, {"instruction": {"state": state}})

    def _page(self, asked: dict[str, str]) -> dict[str, Any]:
        """A page of calls; it may be shorter than its limit and not the last one."""
        found = [name for name, state in self.calls.items() if state == asked["state"]]
        begin = int(asked.get("cursor", "0"))
        end = begin + max(1, int(asked["limit"]) - 1)
        calls = [{"account_id": name, "state": asked["state"]} for name in found[begin:end]]
        return {"calls": calls, "next_cursor": str(end) if end < len(found) else None}

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if path.startswith("/v1/calls/") and path.endswith("/ack"):
            self.acknowledged.append((path, body))
            return 200, {"result": "applied"}
        if not path.endswith("updates"):
            self.posts.append((path, body))
            if path.startswith("/v1/instructions/"):
                self.states[path.removesuffix("/ack")] = body["status"]
            return 200, {"result": "applied"}
        return 200, {"results": [self._result(update) for update in body["updates"]]}

    def _result(self, update: Mapping[str, Any]) -> dict[str, Any]:
        number, taken = update["sequence"], self._taken.pop() if self._taken else 0
        if not taken:
            self.posts.append(("/v1/accounts/updates", update))
        return {
            "account_id": update["account_id"],
            "sequence": number,
            "status": ("applied", "conflict", "duplicate")[min(taken, 2)],
            "expected": number + max(taken, 1),
            "in_sync": True,
        }


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox(0, SECRET) as opened:
        yield opened


def clients_of() -> ClientActivity:
    account = Account("a/1", 100.0, (Position("BTCUSDT-PERP", 1.0, 1.0),), ())
    clients = ClientActivity([(account, NOW)], 7, ["BTCUSDT"])
    clients.take([{"account_id": "a/1", "expected": 5, "in_sync": True}])
    return clients


def desk_of(inbox: Inbox, endpoint: Endpoint, clients: ClientActivity | None = None) -> Desk:
    return Desk(inbox, endpoint, clients or clients_of(), 7)  # type: ignore[arg-type]


def acts(clients: ClientActivity) -> bool:
    return clients.actions(0, NOW, np.array([MARK]), 1e9) is not None


def post(inbox: Inbox, event: Mapping[str, Any], secret: bytes = SECRET) -> int:
    place = urlsplit(inbox.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port or 0, timeout=30)
    body = json.dumps(event).encode()
    headers = signed_headers(secret, event["event_id"], body, time.time())
    connection.request("POST", place.path, body, headers)
    with connection.getresponse() as response:
        status = response.status
    connection.close()
    return status


def call(name: str) -> dict[str, Any]:
    due = format_time(NOW + 24 * HOUR)
    changes = {"event_id": f"{name}-1", "call_id": name, "topic": "call"}
    return call_event("a/1", 1, **changes, outstanding=80.0, deadline=due)


def named(wanted: str) -> dict[str, Any]:
    """A call that the client answers in a certain way."""
    for number in range(1_000):
        answer = answer_call(call(f"c-{number}"), 7, NOW)
        found = "miss" if answer is None else "dispute" if answer.dispute else "deposit"
        if answer is not None and answer.deposit > 80.0:
            found = "meet"
        if found == wanted:
            return call(f"c-{number}")
    raise AssertionError(wanted)


def instruction(kind: str, **parameters: Any) -> dict[str, Any]:
    return {
        "event_id": "i/1-1",
        "topic": "instruction",
        "event": "issued",
        "instruction_id": "i/1",
        "account_id": "a/1",
        "kind": kind,
        "parameters": parameters,
        "deadline": format_time(NOW + 300 * SECOND),
    }


def test_unsigned_webhooks_are_refused_and_repetitions_are_dropped(inbox: Inbox) -> None:
    assert post(inbox, call("c-1"), b"another secret, also long") == 401
    assert inbox.take() == []
    assert [post(inbox, call("c-1")) for _ in range(3)] == [204, 204, 204]
    assert post(inbox, call("c-2")) == 204
    assert inbox.arrived.is_set()
    assert [event["event_id"] for event in inbox.take()] == ["c-1-1", "c-2-1"]
    assert not inbox.arrived.is_set()
    assert inbox.receive(signed_headers(SECRET, "c-3", b"[", time.time()), b"[") == 400


def test_a_client_meets_its_call_when_its_time_has_come(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk, event = desk_of(inbox, endpoint), named("meet")
    answer = answer_call(event, 7, NOW)
    assert answer is not None
    post(inbox, event)
    desk.work(NOW, Prices())
    desk.work(answer.at - 1, Prices())
    assert endpoint.posts == []
    desk.work(answer.at, Prices())
    ((path, update),) = endpoint.posts
    assert path == "/v1/accounts/updates"
    assert (update["account_id"], update["sequence"]) == ("a/1", 5)
    deposit = {"kind": "deposit", "asset": "USD", "amount": answer.deposit}
    assert update["deltas"] == [deposit]


@pytest.mark.parametrize("ahead", [1, 3])
def test_numbers_that_another_sender_took_delay_a_deposit_only(inbox: Inbox, ahead: int) -> None:
    endpoint = Endpoint(ahead)
    desk, event = desk_of(inbox, endpoint), named("meet")
    post(inbox, event)
    desk.work(NOW, Prices())
    desk.work(NOW + 24 * HOUR, Prices())
    ((_, update),) = endpoint.posts
    assert update["sequence"] == 5 + ahead


def test_a_client_disputes_its_call(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk, event = desk_of(inbox, endpoint), named("dispute")
    post(inbox, event)
    desk.work(NOW, Prices())
    desk.work(NOW + 24 * HOUR, Prices())
    ((path, body),) = endpoint.posts
    assert path == f"/v1/calls/{event['call_id'].replace('/', '%2F')}/dispute"
    assert body["reason"]


def test_a_raised_call_is_met_once_and_by_what_is_asked_last(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk, event = desk_of(inbox, endpoint), named("meet")
    for number, outstanding in enumerate((80.0, 300.0, 200.0), start=1):
        name = {"event_id": f"{event['call_id']}-{number}", "outstanding": outstanding}
        post(inbox, event | name | {"event": "opened" if number == 1 else "raised"})
        desk.work(NOW, Prices())
    desk.work(NOW + 24 * HOUR, Prices())
    ((_, update),) = endpoint.posts
    assert update["deltas"][0]["amount"] == 204.0


def test_a_call_that_the_market_met_is_not_met_again(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk, event = desk_of(inbox, endpoint), named("meet")
    post(inbox, event)
    desk.work(NOW, Prices())
    post(inbox, event | {"event_id": f"{event['call_id']}-2", "event": "met"})
    desk.work(NOW + 24 * HOUR, Prices())
    assert endpoint.posts == []


def test_a_call_is_acknowledged_when_it_opens(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk = desk_of(inbox, endpoint)
    post(inbox, call("c/1"))
    post(inbox, call("c/2") | {"account_id": "elsewhere"})
    post(inbox, call("c/3") | {"kind": "advice"})
    post(inbox, call("c/1") | {"event_id": "c/1-2", "event": "raised"})
    desk.work(NOW, Prices())
    assert endpoint.acknowledged == [("/v1/calls/c%2F1/ack", {"reference": "c/1-1"})]


def test_a_missed_call_has_no_answer(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk = desk_of(inbox, endpoint)
    post(inbox, named("miss"))
    desk.work(NOW, Prices())
    desk.work(NOW + 48 * HOUR, Prices())
    assert endpoint.posts == []


def test_a_close_changes_the_account_before_it_is_answered(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk = desk_of(inbox, endpoint)
    post(inbox, instruction("close", instrument="BTCUSDT-PERP", quantity=-0.5))
    desk.work(NOW, Prices())
    (_, update), (path, answer) = endpoint.posts
    assert path == "/v1/instructions/i%2F1/ack"
    (fill,) = update["deltas"]
    assert (fill["kind"], fill["quantity"]) == ("fill", -0.5)
    assert fill["price"] < MARK
    assert answer == {
        "status": "filled",
        "quantity": -0.5,
        "price": fill["price"],
        "reference": "i/1-1",
    }


def test_an_instruction_that_has_expired_is_not_carried_out(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk = desk_of(inbox, endpoint)
    post(inbox, instruction("close", instrument="BTCUSDT-PERP", quantity=-0.5))
    desk.work(NOW + 300 * SECOND, Prices())
    assert endpoint.posts == []


def test_a_take_over_empties_the_account_and_its_client_stops(inbox: Inbox) -> None:
    endpoint, clients = Endpoint(), clients_of()
    desk = desk_of(inbox, endpoint, clients)
    assert acts(clients)
    post(inbox, instruction("transfer_to_backstop", equity=3.0))
    desk.work(NOW, Prices())
    assert not acts(clients)
    (_, update), (_, answer) = endpoint.posts
    assert update["snapshot"] == {"cash": 0.0, "positions": [], "collateral": []}
    assert answer["status"] == "filled"


CARRIED_OUT = (
    instruction("close", instrument="BTCUSDT-PERP", quantity=-0.5),
    instruction("transfer_to_backstop", equity=3.0),
)


@pytest.mark.parametrize("event", CARRIED_OUT, ids=lambda event: event["kind"])
def test_an_instruction_that_comes_again_after_a_restart_is_carried_out_once(
    event: dict[str, Any],
) -> None:
    endpoint = Endpoint()
    for _ in range(2):
        with Inbox(0, SECRET) as inbox:
            desk = desk_of(inbox, endpoint)
            assert post(inbox, event) == 204
            assert desk.work(NOW, Prices())
            desk.close()
    assert [path for path, _ in endpoint.posts] == [
        "/v1/accounts/updates",
        "/v1/instructions/i%2F1/ack",
    ]


@pytest.mark.parametrize(
    ("state", "carried_out"),
    [("issued", True), ("acknowledged", True)]
    + [(state, False) for state in ("filled", "partly_filled", "rejected", "timed_out")]
    + [("cancelled", False), ("unknown", False)],
)
def test_an_instruction_is_carried_out_while_the_endpoint_has_it_open(
    inbox: Inbox, state: str, carried_out: bool
) -> None:
    endpoint = Endpoint()
    endpoint.states["/v1/instructions/i%2F1"] = state
    desk = desk_of(inbox, endpoint)
    post(inbox, CARRIED_OUT[0])
    desk.work(NOW, Prices())
    assert len(endpoint.posts) == (2 if carried_out else 0)


@pytest.mark.parametrize("ahead", [1, 3])
def test_numbers_that_another_sender_took_delay_a_take_over_only(inbox: Inbox, ahead: int) -> None:
    endpoint = Endpoint(ahead)
    desk = desk_of(inbox, endpoint)
    post(inbox, instruction("transfer_to_backstop", equity=3.0))
    desk.work(NOW, Prices())
    (_, update), (_, answer) = endpoint.posts
    assert update["sequence"] == 5 + ahead
    assert update["snapshot"] == {"cash": 0.0, "positions": [], "collateral": []}
    assert answer["status"] == "filled"


def test_a_take_over_that_is_not_applied_is_rejected_and_its_client_acts_on(inbox: Inbox) -> None:
    endpoint, clients = Endpoint(1, times=3), clients_of()
    desk = desk_of(inbox, endpoint, clients)
    post(inbox, instruction("transfer_to_backstop", equity=3.0))
    desk.work(NOW, Prices())
    ((_, answer),) = endpoint.posts
    assert answer == {"status": "rejected", "reason": "the account could not be emptied"}
    assert acts(clients)


def test_after_a_restart_clients_of_accounts_that_were_taken_or_closed_stay_away(
    inbox: Inbox,
) -> None:
    accounts = [Account(f"a/{n}", 1_000.0) for n in range(40)]
    clients = ClientActivity([(account, NOW) for account in accounts], 7, ["BTCUSDT"])
    endpoint, states = Endpoint(), ("taken_over", "closed", "bad_debt", "met")
    endpoint.calls = {f"a/{n}": states[n % 4] for n in range(36)}
    desk = desk_of(inbox, endpoint, clients)
    assert desk.catch_up(4)
    left = {f"a/{n}" for n in range(40) if n >= 36 or n % 4 == 3}
    # The endpoint knows none of them any more: what was taken is not given back.
    assert all(desk.send(request) for request in clients.snapshots(NOW))
    assert {update["account_id"] for _, update in endpoint.posts} == left
    change = clients.actions(0, NOW, np.array([MARK]), 1e9)
    assert change is not None
    assert {update["account_id"] for update in change["updates"]} == left


def test_an_account_of_another_venue_is_rejected(inbox: Inbox) -> None:
    endpoint = Endpoint()
    desk = desk_of(inbox, endpoint)
    post(inbox, instruction("reduce_only") | {"account_id": "elsewhere"})
    desk.work(NOW, Prices())
    ((_, answer),) = endpoint.posts
    assert answer == {"status": "rejected", "reason": "no account of this venue"}


def test_the_outbox_reaches_the_venue_of_a_run(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARGINCAST_SIMULATED_VENUE_SECRET", raising=False)
    file = tmp_path / "margincast.toml"
    text = "[simulate]\nspeed = 600\n[monitoring]\nenabled = true\n[enforcement]\nenabled = "
    file.write_text(f"{text}false\n", "utf-8")
    assert with_venue(load_config(file)).enforcement.webhooks == ()
    file.write_text(f"{text}true\n", "utf-8")
    config = with_venue(load_config(file))
    assert with_venue(config) is config
    (hook,) = config.enforcement.webhooks
    from pipelines.delivery.configured_sinks import sinks_of

    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger, open_inbox(config) as inbox:
        assert inbox.url == hook.url
        with DeliveryWorker(ledger, sinks_of(config.enforcement), QUICK, lambda: True):
            put(ledger, [call_event("a", 1)], [SINK])
            wait_for(lambda: statuses(ledger) == {"call-a-1": "delivered"})
        assert [event["event_id"] for event in inbox.take()] == ["call-a-1"]
