"""An override: an add-on or a deadline that a person set in the place of what was computed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from margin.rules.approval import OverrideType
from market.core.clock import parse_time

OverrideState = Literal["pending", "active", "rejected", "replaced", "expired", "ended"]
"""Of these a `ControlState` holds the pending and the active ones; records hold the others."""


class Override(Struct, frozen=True, forbid_unknown_fields=True):
    """An override as it stands; times are ISO 8601.

    Attributes
    ----------
    override_id:
        Id of the command that requested it.
    kind:
        What it overrides.
    target:
        Id of the account whose add-on it sets, or of the call whose deadline it sets.
    add_on, deadline:
        What it sets; None for the other kind.
    reason:
        Why.
    amount:
        What its row of the approval matrix was compared with, settlement currency.
    requester, approver:
        Who requested and who approved it; no approver where it counted at once.
    requested_at, approved_at:
        When.
    expires:
        From when it no longer counts.
    pending_until:
        From when it can no longer be approved.
    state:
        See `OverrideState`.
    """

    override_id: str
    kind: OverrideType
    target: str
    reason: str
    amount: float
    requester: str
    requested_at: str
    expires: str
    pending_until: str
    state: OverrideState = "pending"
    add_on: float | None = None
    deadline: str | None = None
    approver: str | None = None
    approved_at: str | None = None

    def lapsed(self, now: int) -> bool:
        """Whether it is over by time: expired, or not approved in time."""
        until = self.pending_until if self.state == "pending" else self.expires
        return parse_time(until) <= now

    def with_state(self, state: OverrideState) -> Override:
        """The override in another state."""
        return msgspec.structs.replace(self, state=state)

    def effect(self) -> dict[str, Any]:
        """What changes where it begins or ends to count."""
        if self.kind == "add_on":
            return {"effect": "add_on_changed", "account_id": self.target}
        return {"effect": "deadline_changed", "call_id": self.target}
