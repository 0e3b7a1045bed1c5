"""Calls over HTTP: pages of them, and one with its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from decisions.errors import NotFoundError
from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from ledger.schema import calls, instructions
from ledger.store import Ledger
from margin.life_cycle.states import State
from margin.rules.enforcement import CALL_TYPES
from serving.enforcement.control_listing import ControlListing
from serving.enforcement.open_calls import OpenCalls
from serving.enforcement.stored_rows import (
    CALL_SORTS,
    RowQuery,
    StoredRows,
    check_choice,
    read_deliveries,
    read_events,
)
from serving.schemas.enforcement_messages import CallDetail, CallPage

OF_ACCOUNT = 10
"""Calls that an account shows: its open ones, and the newest."""

MOST_INSTRUCTIONS = 1_000
"""Newest instructions that a call shows."""

CALL_STATES = tuple(state.label for state in State)
"""States that calls may be filtered by."""

_NEWEST = (calls.c.opened_at.desc(), calls.c.call_id.desc())


class CallListing:
    """Reads calls from a ledger.

    Parameters
    ----------
    ledger:
        Where they are.
    controls:
        Reads overrides.
    max_page:
        Most calls in a page.
    """

    def __init__(self, ledger: Ledger, controls: ControlListing, max_page: int) -> None:
        self._ledger, self._controls = ledger, controls
        self._calls = StoredRows(ledger, "calls", Call, max_page)
        self._instructions = StoredRows(ledger, "instructions", Instruction, max_page)
        self._open = OpenCalls(ledger, self._calls.read)

    def page(self, query: RowQuery) -> CallPage:
        """A page of calls, the newest first, or by `RowQuery.sort`.

        Raises
        ------
        RequestError
            A filter, the limit or the cursor is impossible.
        LedgerError
            The calls cannot be read.
        """
        check_choice("state", query.state, CALL_STATES)
        check_choice("type", query.type, CALL_TYPES)
        check_choice("sort", query.sort, CALL_SORTS)

        def wanted(call: Call) -> bool:
            return query.type is None or query.type in call.types

        return CallPage(*self._calls.page(query, wanted))

    def call(self, call_id: str) -> CallDetail:
        """One call with its record.

        Raises
        ------
        NotFoundError
            There is no such call.
        LedgerError
            It cannot be read, or was altered.
        """
        call = self.find(call_id)
        if call is None:
            raise NotFoundError(f"there is no call {call_id!r}; GET /v1/calls lists them")
        events = read_events(self._ledger, call_id, call.number)
        given = (
            select(instructions)
            .where(instructions.c.call_id == call_id)
            .order_by(instructions.c.issued_at.desc(), instructions.c.instruction_id.desc())
            .limit(MOST_INSTRUCTIONS)
        )
        answered = self._instructions.read(given)
        names = [str(event["event_id"]) for event in events]
        names += [f"{one.instruction_id}-{n}" for one in answered for n in range(1, one.number + 1)]
        return CallDetail(
            call=call,
            events=events,
            cures=_cures(events),
            instructions=answered[::-1],
            deliveries=read_deliveries(self._ledger, names),
            overrides=[
                override
                for override in self._controls.state().overrides.values()
                if override.target in (call_id, call.account_id)
            ],
        )

    def all_open(self) -> Mapping[str, Call]:
        """All open calls by their ids; raises `LedgerError` where they cannot be read."""
        return self._open.now()

    def find(self, call_id: str) -> Call | None:
        """A call as it stands; None where there is none."""
        return self._calls.find(call_id)

    def of_account(self, account_id: str) -> list[Call]:
        """The open calls of an account, then its newest ones: at most `OF_ACCOUNT` together."""
        query = (
            select(calls)
            .where(calls.c.account_id == account_id)
            .order_by(calls.c.is_open.desc(), *_NEWEST)
            .limit(OF_ACCOUNT)
        )
        return self._calls.read(query)


def _cures(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of the cure ledger of events, each with the number of its event."""
    return [
        {"time": event["time"], **cure, "number": event["number"]}
        for event in events
        for cure in event["cures"]
    ]
