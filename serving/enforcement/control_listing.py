"""Controls over HTTP: overrides, modes, and notifications that wait or are dead."""

from __future__ import annotations

import msgspec
from sqlalchemy import and_, func, or_, select

from enforcement.controls.control_state import ALL_MARKETS, STATE_NAME, ControlState
from enforcement.record.rows import read_state
from ledger.schema import database_errors, outbox
from ledger.store import Ledger
from market.core.errors import AlteredError
from serving.cursors import encode_cursor
from serving.enforcement.stored_rows import (
    PageCursor,
    check_choice,
    check_limit,
    delivery,
    is_storable,
    read_cursor,
)
from serving.schemas.enforcement_messages import DeliveryPage, ModeView, OverrideList

STATUSES = ("pending", "delivered", "dead", "skipped")
"""Of a notification at a sink."""


class ControlListing:
    """Reads controls from a ledger.

    Parameters
    ----------
    ledger:
        Where they are.
    max_page:
        Most notifications in a page.

    Raises
    ------
    LedgerError
        In every method: they cannot be read.
    """

    def __init__(self, ledger: Ledger, max_page: int) -> None:
        self._ledger, self._max_page = ledger, max_page

    def state(self) -> ControlState:
        """Modes and overrides as the leader wrote them last."""
        content = read_state(self._ledger, STATE_NAME)
        if content is None:
            return ControlState()
        try:
            return ControlState.of_content(content)
        except msgspec.ValidationError as error:
            raise AlteredError(
                f"the state of controls cannot be read ({error}): it was altered, or a newer "
                "version wrote it; verify the ledger"
            ) from error

    def overrides(self) -> OverrideList:
        """Pending and active overrides, the newest first."""
        return OverrideList(list(self.state().overrides.values())[::-1])

    def modes(self) -> ModeView:
        """Modes in force."""
        state = self.state()
        own = {name: sorted(modes) for name, modes in state.modes.items() if name != ALL_MARKETS}
        return ModeView(sorted(state.mode()) or ["normal"], own)

    def deliveries(self, status: str | None, limit: int | None, cursor: str | None) -> DeliveryPage:
        """A page of notifications, the oldest first.

        Raises
        ------
        RequestError
            Status, limit or cursor is impossible.
        """
        check_choice("status", status, STATUSES)
        most = check_limit(limit, self._max_page)
        c = outbox.c
        query = select(outbox).order_by(c.created_at, c.event_id, c.sink).limit(most + 1)
        if status is not None:
            query = query.where(c.status == status)
        if cursor is not None:
            after = read_cursor(cursor, "deliveries")
            same = and_(c.created_at == after.time, c.event_id == after.row_id)
            query = query.where(
                or_(
                    c.created_at > after.time,
                    and_(c.created_at == after.time, c.event_id > after.row_id),
                    and_(same, c.sink > after.sink),
                )
            )
        with database_errors("read"), self._ledger.engine.connect() as connection:
            rows = connection.execute(query).all()
        shown = rows[:most]
        following = None
        if len(rows) > most:
            last = shown[-1]
            following = encode_cursor(
                PageCursor("deliveries", last.created_at, last.event_id, last.sink)
            )
        return DeliveryPage([delivery(row) for row in shown], following)

    def undelivered(self) -> dict[str, int]:
        """How many notifications are pending, and how many are dead."""
        counted = ("pending", "dead")
        c = outbox.c
        query = select(c.status, func.count()).where(c.status.in_(counted)).group_by(c.status)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            found = {str(status): int(count) for status, count in connection.execute(query)}
        return {status: found.get(status, 0) for status in counted}

    def delivery_status(self, event_id: str, sink: str) -> str | None:
        """Status of a notification at a sink; None where there is none."""
        if not is_storable(event_id, sink):
            return None
        query = select(outbox.c.status).where(outbox.c.event_id == event_id, outbox.c.sink == sink)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else str(found)
