"""docs/enforcement.md: every example is executed, and every table says what the code knows."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

from sqlalchemy import insert

from enforcement.calls import engine
from enforcement.calls.call import CureSource
from enforcement.calls.instruction import InstructionKind, InstructionState
from enforcement.controls.messages import DISPUTE_REASONS, MODES
from enforcement.controls.override import OverrideState
from ledger.schema import outbox, writing
from margin.life_cycle.states import State
from margin.rules.enforcement import CALL_TYPES
from market.core.clock import parse_time
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "enforcement.md"
TEXT = PAGE.read_text("utf-8")
KEYS = {
    "READ": "read",
    "CLIENT": "accounts",
    "RISK": "approve",
    "SECOND_RISK": "approve-2",
    "ADMIN": "admin",
    "VENUE": "venue",
}
IDS = re.compile(r"\b[0-9a-f]{32}\b")
FREE = {"evaluation", "amount", "requester", "by", "approver", "command_id", "override_id"}
"""Fields whose values differ from run to run, or are rounded on the page."""


class Exchange(NamedTuple):
    """One example of the page."""

    method: str
    path: str
    key: str
    body: str
    status: int
    answer: Any


def exchanges() -> list[Exchange]:
    found = []
    for block in re.findall(r"^```http\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        request, _, response = block.partition("\nHTTP/1.1 ")
        head, _, body = request.partition("\n\n")
        line, header = head.strip().splitlines()
        key = re.fullmatch(r"Authorization: Bearer \$(\w+)_KEY", header)
        assert key is not None
        method, path = line.split(" ")
        status, _, answer = response.partition("\n")
        code = int(status.split(" ")[0])
        found.append(Exchange(method, path, KEYS[key[1]], body.strip(), code, json.loads(answer)))
    return found


def test_every_example_is_answered_as_the_page_says(desk: Desk) -> None:
    desk.watched.update(snapshot("drowning", 1, 200.0, BTC=0.5))
    desk.watched.settle()
    store_dead_letter(desk)
    renamed: dict[str, str] = {}

    def here(text: str) -> str:
        return IDS.sub(lambda found: renamed.get(found[0], found[0]), text)

    with desk.leading():
        for one in exchanges():
            headers = desk.key(one.key) | ({"Content-Type": "application/json"} if one.body else {})
            answer = desk.endpoint.client.request(
                one.method, here(one.path), content=here(one.body) or None, headers=headers
            )
            assert answer.status_code == one.status, (one.path, answer.text)
            body = answer.json()
            assert keys_of(body) == keys_of(one.answer), one.path
            renamed.update(pairs(one.answer, body))
            wanted = json.loads(here(json.dumps(one.answer)))
            assert plain(body) == plain(wanted), one.path


def store_dead_letter(desk: Desk) -> None:
    row = {
        "event_id": f"{desk.call()['call_id']}-1",
        "sink": "crm",
        "account_id": "desk/1",
        "sequence": 1,
        "created_at": parse_time("2025-01-10T14:00:00Z"),
        "body": b"",
        "status": "dead",
        "attempts": 20,
        "next_attempt_at": 1,
        "detail": "HTTP status 503",
    }
    with writing(desk.endpoint.ledger.engine) as connection:
        connection.execute(insert(outbox), row)


def keys_of(value: Any) -> Any:
    """Keys at every depth, of the first element of a list."""
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value else None


def pairs(page: Any, answer: Any) -> dict[str, str]:
    """Which id of an answer each id of the page stands for."""
    if isinstance(page, dict):
        found: dict[str, str] = {}
        for key in page:
            found |= pairs(page[key], answer[key])
        return found
    if isinstance(page, list):
        return {k: v for p, a in zip(page, answer, strict=False) for k, v in pairs(p, a).items()}
    is_id = isinstance(page, str) and IDS.fullmatch(page) is not None
    return {page: answer} if is_id else {}


def plain(value: Any) -> Any:
    """A value without what differs from run to run; numbers to two digits."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in FREE}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return round(value, 2) if isinstance(value, float) else value


def table(head: str) -> list[str]:
    """First column of the table whose head begins like this, without its marks."""
    lines = iter(TEXT.splitlines())
    assert any(line.startswith(f"| {head} |") for line in lines), head
    next(lines)
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append(line.split("|")[1].strip().strip("`"))
    return cells


def follow_ups() -> list[tuple[str, str]]:
    """Events and reasons that the engine gives beside those of transitions."""
    return re.findall(r'event, reason = "(\w+)", "(\w+)"', inspect.getsource(engine))


def test_states_and_types_are_those_of_the_code() -> None:
    assert set(table("state")) == {state.label for state in State}
    assert table("type") == list(CALL_TYPES)
    assert table("instruction state") == list(get_args(InstructionState))
    assert table("kind") == list(get_args(InstructionKind))
    assert table("override state") == list(get_args(OverrideState))
    assert table("cure") == list(get_args(CureSource))
    assert table("mode") == list(MODES)
    assert table("dispute reason") == list(DISPUTE_REASONS)


def test_events_and_reasons_are_those_of_the_engine() -> None:
    assert len(follow_ups()) >= 3
    events = {*engine.EVENT_OF.values(), "dispute_expired", "acknowledged"}
    events |= {event for event, _ in follow_ups()}
    assert set(table("event")) == events
    reasons = {reason.code for reason in engine.EVENT_OF} | {"override", "acknowledgement"}
    assert set(table("reason")) == reasons | {r for _, r in follow_ups()}


def test_routes_and_scopes_are_those_of_the_endpoint(desk: Desk) -> None:
    document = desk.endpoint.client.get("/docs/openapi.json").json()["paths"]
    known = {
        f"{method.upper()} {re.sub(r'{(call|instruction|override|command)_id}', '{id}', path)}"
        for path, item in document.items()
        for method in item
        if re.match(r"/v1/(calls|instructions|overrides|admin|commands)", path)
    }
    assert set(table("route")) == known
