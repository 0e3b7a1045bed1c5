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
    """An override as it stands; times are ISO 8601."""

    override_id: str
    """Id of the command that requested it."""
    kind: OverrideType
    """What it overrides: the add-on of an account or the deadline of a call."""
    target: str
    """Id of the account whose add-on it sets, or of the call whose deadline it sets."""
    reason: str
    """Why it was requested."""
    amount: float
    """Amount that decides how many people must approve it, settlement currency."""
    requester: str
    """Who requested it."""
    requested_at: str
    """When it was requested."""
    expires: str
    """From when it no longer counts."""
    pending_until: str
    """From when it can no longer be approved."""
    state: OverrideState = "pending"
    """Whether it waits for approval, counts, or why it is over."""
    add_on: float | None = None
    """Add-on that it sets, settlement currency; null of a deadline."""
    deadline: str | None = None
    """Deadline that it sets; null of an add-on."""
    approver: str | None = None
    """Who approved it; null where it counted at once or is pending."""
    approved_at: str | None = None
    """When it was approved; null likewise."""

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
