"""Instructions over HTTP: pages of them, and one with its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from sqlalchemy import select

from decisions.errors import NotFoundError
from enforcement.calls.instruction import Instruction, InstructionKind, InstructionState
from ledger.schema import instructions
from ledger.store import Ledger
from serving.cursors import encode_cursor
from serving.enforcement.stored_rows import (
    PageCursor,
    check_choice,
    check_limit,
    many,
    older_than,
    read_contents,
    read_cursor,
    read_deliveries,
    read_events,
    read_matching,
)
from serving.schemas.enforcement_messages import InstructionDetail, InstructionPage


@dataclass(frozen=True, slots=True)
class InstructionQuery:
    """Which instructions are asked for.

    Attributes
    ----------
    state, type, account, call_id:
        Only instructions in this state, of this kind, of this account, for this call; None: all.
    open:
        Only those on which the venue has still to act, or only the others; None: both.
    limit, cursor:
        As in `serving.account_listing.PageRequest`.
    """

    state: str | None = None
    type: str | None = None
    account: str | None = None
    call_id: str | None = None
    open: bool | None = None
    limit: int | None = None
    cursor: str | None = None


class InstructionListing:
    """Reads instructions from a ledger.

    Parameters
    ----------
    ledger:
        Where they are.
    max_page:
        Most instructions in a page.
    """

    def __init__(self, ledger: Ledger, max_page: int) -> None:
        self._ledger, self._max_page = ledger, max_page

    def page(self, query: InstructionQuery) -> InstructionPage:
        """A page of instructions, the newest first; raises as `CallListing.page`."""
        check_choice("state", query.state, get_args(InstructionState))
        check_choice("type", query.type, get_args(InstructionKind))
        limit = check_limit(query.limit, self._max_page)
        table = instructions
        chosen = select(table).order_by(table.c.issued_at.desc(), table.c.instruction_id.desc())
        if query.open is not None:
            chosen = chosen.where(table.c.is_open == int(query.open))
        for column, value in (
            (table.c.account_id, query.account),
            (table.c.call_id, query.call_id),
            (table.c.state, query.state),
            (table.c.kind, query.type),
        ):
            if value is not None:
                chosen = chosen.where(column == value)
        if query.cursor is not None:
            after = read_cursor(query.cursor, "instructions")
            chosen = chosen.where(older_than(table, "issued_at", "instruction_id", after))
        found, last = read_matching(self._ledger, Instruction, chosen, lambda _: True, limit)
        if last is None:
            return InstructionPage(found, None)
        cursor = PageCursor("instructions", last.issued_at, last.instruction_id)
        return InstructionPage(found, encode_cursor(cursor))

    def instruction(self, instruction_id: str) -> InstructionDetail:
        """One instruction with its record; raises as `CallListing.call`."""
        found = self.find(instruction_id)
        if found is None:
            raise NotFoundError(
                f"there is no instruction {instruction_id!r}; GET /v1/instructions lists them"
            )
        events = read_events(self._ledger, instruction_id, found.number)
        names = [str(event["event_id"]) for event in events]
        return InstructionDetail(found, events, read_deliveries(self._ledger, names))

    def find(self, instruction_id: str) -> Instruction | None:
        """An instruction as it stands; None where there is none."""
        query = select(instructions).where(instructions.c.instruction_id == instruction_id)
        found = many(read_contents(self._ledger, Instruction, query))
        return found[0] if found else None
