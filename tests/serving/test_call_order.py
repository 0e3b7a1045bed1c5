"""Calls by their deadlines, page by page, on SQLite and PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest

from enforcement.calls.call import AccountFigures, Call, Dispute, Opening
from enforcement.record.rows import write_calls
from ledger.schema import writing
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from serving.enforcement.call_listing import CallListing
from serving.enforcement.control_listing import ControlListing
from serving.enforcement.stored_rows import RowQuery

AT = "2026-01-02T00:00:00Z"
FIGURES = AccountFigures(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
DISPUTE = Dispute("price", None, AT, AT, "key", "")


def call(name: str, hours: float | None, **more: object) -> Call:
    made = Call(name, "a", "call", (), "called", AT, Opening(AT, "market", 1), 9.0, 9.0, FIGURES)
    due = None if hours is None else format_time(parse_time(AT) + round(hours * HOUR))
    return msgspec.structs.replace(made, deadline=due, **more)


def write(ledger: Ledger, *calls: Call) -> None:
    with writing(ledger.engine) as connection:
        write_calls(connection, [(one, 1) for one in calls])


@pytest.fixture
def listing(either_ledger: Ledger) -> CallListing:
    part = msgspec.structs.replace(DISPUTE, amount=4.0)
    write(
        either_ledger,
        call("e-advice", None, kind="advice"),
        call("c-late", 9.0),
        call("a-stopped", -5.0, state="disputed", dispute=DISPUTE),
        call("d-part", 2.0, state="disputed", dispute=part),
        call("b-overdue", -1.0),
        call("f-same", 9.0),
        call("g-ended", None, state="met", closed_at=AT),
    )
    return CallListing(either_ledger, ControlListing(either_ledger, 100), 100)


def pages(listing: CallListing, is_open: bool | None) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = listing.page(RowQuery(open=is_open, sort="due", limit=1, cursor=cursor))
        found += [one.call_id for one in page.calls]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_pages_hold_every_call_once_and_the_next_deadline_first(listing: CallListing) -> None:
    order = ["b-overdue", "d-part", "c-late", "f-same", "a-stopped", "e-advice"]
    assert pages(listing, True) == order
    assert pages(listing, None) == [*order, "g-ended"]


def test_a_call_whose_deadline_moves_is_found_at_its_new_place(
    listing: CallListing, either_ledger: Ledger
) -> None:
    first = listing.page(RowQuery(open=True, sort="due", limit=2))
    assert [one.call_id for one in first.calls] == ["b-overdue", "d-part"]
    write(either_ledger, call("c-late", 20.0), call("b-overdue", 30.0))
    rest = listing.page(RowQuery(open=True, sort="due", cursor=first.next_cursor))
    found = [one.call_id for one in rest.calls]
    assert found == ["f-same", "c-late", "b-overdue", "a-stopped", "e-advice"]
