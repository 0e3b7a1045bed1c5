"""The outbox is compared with the records of its events."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from enforcement.delivery.outbox import message_body
from enforcement.delivery.outbox_check import outbox_problems
from ledger.chain import extend
from ledger.packing import pack
from ledger.records import Entry
from ledger.schema import outbox
from ledger.store import Ledger
from tests.enforcement.delivery.receiver import call_event, put

COUNT = 700


def recorded(number: int) -> dict[str, Any]:
    return call_event(f"a{number % 9}", number)


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """A ledger with events and their notifications."""
    entries = []
    for number in range(1, COUNT + 1):
        event = recorded(number)
        name = event.pop("event_id")
        entries.append(Entry("call", event, name, account_id=event["account_id"], as_of=number))
    with ledger.transaction() as connection:
        extend(connection, "enforcement", entries)
    put(ledger, [recorded(number) for number in range(1, COUNT + 1)], ["venue", "mail"])
    return ledger


def problems(ledger: Ledger) -> list[str]:
    with ledger.engine.connect() as connection:
        return list(outbox_problems(connection))


def test_an_outbox_as_it_was_written_has_no_problems(filled: Ledger) -> None:
    assert problems(filled) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"body": pack(message_body(recorded(7) | {"amount": 1.0}))},
        {"body": b"\x01"},
        {"account_id": "another"},
        {"sequence": 99},
        {"status": "lost"},
    ],
)
def test_an_altered_row_is_found_by_its_event_and_sink(
    filled: Ledger, changes: dict[str, Any]
) -> None:
    name = recorded(7)["event_id"]
    with filled.transaction() as connection:
        row = (outbox.c.event_id == name) & (outbox.c.sink == "mail")
        connection.execute(update(outbox).where(row).values(changes))
    (problem,) = problems(filled)
    assert f"{name!r} for sink 'mail'" in problem
    assert "altered" in problem


def test_an_event_that_was_never_recorded_is_found(filled: Ledger) -> None:
    put(filled, [call_event("a1", COUNT + 1)], ["venue"])
    (problem,) = problems(filled)
    assert "no record has its event: it was inserted" in problem
