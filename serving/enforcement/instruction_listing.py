"""Instructions over HTTP: pages of them, and one with its record."""

from __future__ import annotations

from typing import get_args

from decisions.errors import NotFoundError
from enforcement.calls.instruction import Instruction, InstructionKind, InstructionState
from ledger.store import Ledger
from serving.enforcement.stored_rows import (
    RowQuery,
    StoredRows,
    check_choice,
    read_deliveries,
    read_events,
)
from serving.schemas.enforcement_messages import InstructionDetail, InstructionPage


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
        self._ledger = ledger
        self._rows = StoredRows(ledger, "instructions", Instruction, max_page)

    def page(self, query: RowQuery) -> InstructionPage:
        """A page of instructions, the newest first; raises as `CallListing.page`."""
        check_choice("state", query.state, get_args(InstructionState))
        check_choice("type", query.type, get_args(InstructionKind))
        return InstructionPage(*self._rows.page(query))

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
        return self._rows.find(instruction_id)
