"""What the pages of calls and overrides show."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from enforcement.calls.call import Call
from enforcement.controls.call_commands import (
    takes_acknowledgement,
    takes_dispute,
    was_disputed,
)
from enforcement.controls.messages import DISPUTE_REASONS, MODES, MOST_TEXT
from enforcement.controls.override import Override
from enforcement.controls.override_commands import takes_deadline
from margin.life_cycle.call_rules import enforcement_of
from margin.rules.enforcement import CALL_TYPES
from market.core.errors import RuleSetError
from serving.console.console import Console
from serving.console.views.deadlines import TimeLeft, book_time, call_time_left, time_left
from serving.enforcement.call_listing import CALL_STATES
from serving.enforcement.stored_rows import CALL_SORTS, RowQuery

_OPEN = {"true": True, "false": False, "all": None}

OPEN_CHOICES = tuple(_OPEN)
"""Values of the filter `open`: open calls, ended ones, or both."""

MOST_DEAD = 50
"""Dead notifications that the page of overrides shows."""


class CallFilters(msgspec.Struct, frozen=True):
    """Filters of the work list, as its URL has them; see `RowQuery`."""

    state: str = ""
    type: str = ""
    account: str = ""
    open: str = "true"
    sort: str = "due"
    limit: int | None = None
    cursor: str | None = None

    def query(self) -> RowQuery:
        """Which calls."""
        return RowQuery(
            state=self.state or None,
            type=self.type or None,
            account=self.account or None,
            open=_OPEN[self.open],
            limit=self.limit,
            cursor=self.cursor,
            sort=self.sort,
        )

    def url(self, cursor: str | None) -> str:
        """The page with these filters after a cursor, or the first one."""
        fields = {
            "state": self.state,
            "type": self.type,
            "account": self.account,
            "open": self.open,
            "sort": self.sort,
            "limit": self.limit,
            "cursor": cursor,
        }
        return "/calls?" + urlencode({name: value for name, value in fields.items() if value})


def call_list(console: Console, filters: CallFilters) -> dict[str, Any]:
    """The work list, and what waits for a person.

    Raises
    ------
    RequestError
        A filter, the limit or the cursor is impossible.
    NoMarketError
        The market's clock has no time yet.
    LedgerError
        The calls cannot be read.
    """
    now = book_time(console.service)
    page = console.calls.page(filters.query())
    overrides = console.controls.overrides().overrides
    disputed = [call for call in console.calls.all_open().values() if call.dispute is not None]
    return {
        "rows": [(call, call_time_left(call, now)) for call in page.calls],
        "next": None if page.next_cursor is None else filters.url(page.next_cursor),
        "first": None if filters.cursor is None else filters.url(None),
        "filters": filters,
        "call_states": CALL_STATES,
        "call_types": CALL_TYPES,
        "sorts": CALL_SORTS,
        "pending": [
            (one, time_left(one.pending_until, now)) for one in overrides if one.state == "pending"
        ],
        "disputed": sorted(
            ((call, time_left(call.dispute.until, now)) for call in disputed if call.dispute),
            key=lambda row: (row[0].dispute.until if row[0].dispute else "", row[0].call_id),
        ),
    }


def call_content(console: Console, call_id: str) -> dict[str, Any]:
    """One call with its record, as `CallListing.call`, and what may be done about it.

    Raises
    ------
    NotFoundError
        There is no such call.
    NoMarketError, LedgerError
        As in `call_list`.
    """
    now = book_time(console.service)
    detail = console.calls.call(call_id)
    call = detail.call
    return {
        "detail": detail,
        "call": call,
        "left": call_time_left(call, now),
        "figures": msgspec.to_builtins(call.figures),
        "overrides": [(one, _until(one, now)) for one in detail.overrides],
        "dispute_reasons": DISPUTE_REASONS,
        "takes": {
            "acknowledgement": takes_acknowledgement(call),
            "dispute": takes_dispute(call),
            "deadline": takes_deadline(call),
        },
        "was_disputed": was_disputed(call),
        "hours_wait": _hours_wait(console),
        "liquidation": _liquidation(call),
        "most_text": MOST_TEXT,
    }


def overrides_content(console: Console) -> dict[str, Any]:
    """Pending and active overrides, modes in force, and dead notifications.

    Raises
    ------
    NoMarketError, LedgerError
        As in `call_list`.
    """
    now = book_time(console.service)
    rows = [(one, _until(one, now)) for one in console.controls.overrides().overrides]
    dead = console.controls.deliveries(
        "dead", min(MOST_DEAD, console.service.settings.max_page), None
    )
    return {
        "pending": [row for row in rows if row[0].state == "pending"],
        "active": [row for row in rows if row[0].state != "pending"],
        "modes": console.controls.modes(),
        "mode_names": [name for name in MODES if name != "normal"],
        "symbols": console.service.live.state.head.symbols,
        "dead": dead.deliveries,
        "more_dead": dead.next_cursor is not None,
        "most_text": MOST_TEXT,
    }


def _hours_wait(console: Console) -> bool:
    """Whether the hours of calls run from their acknowledgement under the rules in force."""
    try:
        return enforcement_of(console.service.in_force.now()).waiting_hours > 0.0
    except RuleSetError:
        return False


def _liquidation(call: Call) -> dict[str, Any] | None:
    """How far the liquidation of a call has come, as `Call.progress` has it; None before it.

    ``settled`` is what the default resources cover of the debt, and ``records`` are the ids of the
    records that say who bears it.
    """
    progress = call.progress
    if progress is None:
        return None
    settlements = int(progress.get("settlements", 0))
    return {
        "steps": int(progress.get("steps", 0)),
        "rejections": int(progress.get("rejections", 0)),
        "proceeds": float(progress.get("reserved", 0.0)),
        "taken_over": bool(progress.get("taken_over")),
        "settled": float(progress.get("settled_amount", 0.0)),
        "records": [f"{call.call_id}-resources-{n + 1}" for n in range(settlements)],
    }


def _until(override: Override, now: int) -> TimeLeft:
    pending = override.state == "pending"
    return time_left(override.pending_until if pending else override.expires, now)
