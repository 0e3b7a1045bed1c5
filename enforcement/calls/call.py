"""A margin call of one account: what was called, what has met it, and how it stands.

A call begins with the step at which its account fell below a level, and ends when it is met, or
with the account's positions. A liquidation without a call, as at venues that make none, and an
advice have the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ledger.canonical import canonical_bytes, sha256_hex
from margin.life_cycle.states import State
from market.core.clock import parse_time

SCOPE = "cross"
"""Margin scope: all positions of an account share its margin."""

NEWEST_CURES = 20
"""So many entries of the cure ledger are kept beside a call; its records hold all."""

CallKind = Literal["call", "advice", "liquidation"]

CureSource = Literal["deposit", "withdrawal", "trade", "price_move", "level_change"]


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """What opened a call: the time, and the record that the step rested on."""

    time: str
    chain: str
    seq: int


class Cure(Struct, frozen=True, forbid_unknown_fields=True):
    """An amount that met part of a call; below 0: that took from what had met it.

    ``deposit`` and ``withdrawal``: equity that came or went at constant prices. ``trade``: margin
    that was freed, or taken up, at constant prices. ``price_move``: equity and margin by the
    market. ``level_change``: the add-on that counts.
    """

    source: CureSource
    amount: float
    time: str


class Dispute(Struct, frozen=True, forbid_unknown_fields=True):
    """The dispute of a call; `amount` None: all of it is disputed."""

    reason: str
    amount: float | None
    since: str
    until: str
    by: str
    note: str


class AccountFigures(Struct, frozen=True, forbid_unknown_fields=True):
    """AccountFigures of an account, settlement currency."""

    equity: float
    maintenance_margin: float
    initial_margin: float
    opening_requirement: float
    add_on: float
    cash: float
    headroom: float
    gross_notional: float


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """A call as it stands; times are ISO 8601, amounts in the settlement currency.

    Attributes
    ----------
    call_id:
        See `call_id`.
    account_id, scope, kind:
        Whose, of which margin, and whether it is a call, an advice or a liquidation alone.
    types:
        Which types are unmet, of `margin.rules.enforcement.CALL_TYPES`; of a call that has ended
        those that were unmet last.
    state:
        Label of the account's state, see `margin.life_cycle.states.State`.
    opened_at, acknowledged_at, closed_at:
        When it began, when it was first acknowledged, and when it ended.
    opening:
        What it rests on.
    amount, outstanding:
        What was called at most, and what is missing now until it is met.
    credited:
        What deposits and trades have met since.
    deadlines, deadline:
        Of each type, and when time alone changes the state.
    dispute, dispute_end:
        The open dispute, and how the newest one ended: ``accepted``, ``rejected``, ``expired``, or
        the event of the call that ended it.
    cures:
        The newest entries of the cure ledger.
    number, sequence:
        Of its newest event, within the call and within the account.
    figures:
        At its newest event.
    instructions:
        Ids of open instructions.
    progress:
        Of the liquidation, as `enforcement.liquidation` keeps it.
    """

    call_id: str
    account_id: str
    kind: CallKind
    types: tuple[str, ...]
    state: str
    opened_at: str
    opening: Opening
    amount: float
    outstanding: float
    figures: AccountFigures
    scope: str = SCOPE
    credited: float = 0.0
    deadlines: dict[str, str] = {}
    deadline: str | None = None
    dispute: Dispute | None = None
    dispute_end: str | None = None
    acknowledged_at: str | None = None
    cures: tuple[Cure, ...] = ()
    number: int = 0
    sequence: int = 0
    closed_at: str | None = None
    instructions: tuple[str, ...] = ()
    progress: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.closed_at is None

    @property
    def undisputed(self) -> bool:
        """Whether part of the outstanding amount is not disputed."""
        dispute = self.dispute
        return (
            dispute is not None and dispute.amount is not None and dispute.amount < self.outstanding
        )

    @property
    def clock_stopped(self) -> bool:
        """Whether its deadline waits for its dispute: all that is outstanding is disputed."""
        return self.is_open and self.state == State.DISPUTED.label and not self.undisputed

    def with_credit(self, amount: float) -> Call:
        """The call once updates of the account have met an amount of it."""
        return msgspec.structs.replace(self, credited=self.credited + amount)

    def with_repayment(self, amount: float) -> Call:
        """The call once cash came in that is owed no more of what was settled, see `progress`."""
        settled = float((self.progress or {}).get("settled_amount", 0.0))
        if not settled or amount <= 0.0:
            return self
        progress = {**(self.progress or {}), "settled_amount": max(0.0, settled - amount)}
        return msgspec.structs.replace(self, progress=progress)

    def without_dispute(self, end: str) -> Call:
        """The call once its dispute has ended."""
        return msgspec.structs.replace(self, dispute=None, dispute_end=end)

    def content(self) -> dict[str, Any]:
        """As its row holds it."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> Call:
        """The call of a row; raises `msgspec.ValidationError` where it is none."""
        return msgspec.convert(dict(content), cls)


def call_id(account_id: str, kind: str, time: int, sequence: int, scope: str = SCOPE) -> str:
    """Identifier of a call, 32 hexadecimal digits.

    A hash of account, scope, kind, the time of the opening event and its number among the events of
    the account: neither the wall clock nor chance, so that a replay gives the same one.
    """
    named = [account_id, scope, kind, time, sequence]
    return sha256_hex(canonical_bytes(named))[:32]


def instruction_id(call: str, step: int, kind: str, instrument: str = "") -> str:
    """Identifier of an instruction: a hash of the call, the step of its liquidation and the act."""
    return sha256_hex(canonical_bytes([call, step, kind, instrument]))[:32]


def time_or_none(text: str | None) -> int | None:
    """Nanoseconds of an ISO time; None without one."""
    return None if text is None else parse_time(text)
