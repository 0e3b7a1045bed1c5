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
    """What opened a call."""

    time: str
    """When."""
    chain: str
    """Chain of the record that the step rested on."""
    seq: int
    """Number of that record within its chain."""


class Cure(Struct, frozen=True, forbid_unknown_fields=True):
    """An amount that met part of a call."""

    source: CureSource
    """`deposit` and `withdrawal`: equity that came or went at constant prices. `trade`: margin that
    was freed, or taken up, at constant prices. `price_move`: equity and margin by the market.
    `level_change`: the add-on that counts."""
    amount: float
    """Amount that met the call, settlement currency; below 0 it took from what had met it."""
    time: str
    """When."""


class Dispute(Struct, frozen=True, forbid_unknown_fields=True):
    """The dispute of a call."""

    reason: str
    """What is contested."""
    amount: float | None
    """Amount that is disputed, settlement currency; null: all that is outstanding."""
    since: str
    """When it began."""
    until: str
    """When it ends unless it is decided before."""
    by: str
    """Who disputed."""
    note: str
    """Text of whoever disputed; may be empty."""


class AccountFigures(Struct, frozen=True, forbid_unknown_fields=True):
    """An account at an event of a call, in the settlement currency."""

    equity: float
    """Cash, collateral after haircuts and profit or loss of the positions."""
    maintenance_margin: float
    """Net maintenance margin."""
    initial_margin: float
    """Net initial margin."""
    opening_requirement: float
    """What equity must cover before new risk is taken."""
    add_on: float
    """Margin required beyond maintenance margin."""
    cash: float
    """Cash balance; negative is owed."""
    headroom: float
    """Equity minus maintenance margin."""
    gross_notional: float
    """Sum of the absolute notionals of the positions."""


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """A call as it stands; times are ISO 8601, amounts in the settlement currency."""

    call_id: str
    """Id of the call, 32 hexadecimal digits."""
    account_id: str
    """Id of the account that was called."""
    kind: CallKind
    """Whether it is a call, an advice or a liquidation without a call."""
    types: tuple[str, ...]
    """Types of calls that are unmet, `proactive`, `initial_margin`, `maintenance_margin` or
    `settlement`; of a call that has ended those that were unmet last."""
    state: str
    """State of the account's life cycle, like `called`, `partly_met` or `disputed`."""
    opened_at: str
    """When it began."""
    opening: Opening
    """What it rests on."""
    amount: float
    """Most that was called, settlement currency."""
    outstanding: float
    """What is missing now until it is met, settlement currency."""
    figures: AccountFigures
    """The account at the newest event of the call."""
    scope: str = SCOPE
    """Margin scope: `cross`, all positions of the account share its margin."""
    credited: float = 0.0
    """What deposits and trades have met since, settlement currency."""
    deadlines: dict[str, str] = {}
    """Deadline of each type of call that is unmet."""
    deadline: str | None = None
    """When time alone changes the state; null where it does not."""
    dispute: Dispute | None = None
    """The open dispute; null where none is."""
    dispute_end: str | None = None
    """How the newest dispute ended: `accepted`, `rejected`, `expired`, or the event of the call
    that ended it; null before one did."""
    acknowledged_at: str | None = None
    """When it was first acknowledged; null before."""
    cures: tuple[Cure, ...] = ()
    """Newest entries of the cure ledger, at most 20."""
    number: int = 0
    """Number of its newest event within the call."""
    sequence: int = 0
    """Number of its newest event within the account."""
    closed_at: str | None = None
    """When it ended; null while it is open."""
    instructions: tuple[str, ...] = ()
    """Ids of open instructions."""
    progress: dict[str, Any] | None = None
    """How far the liquidation is; null without one. `since` and `last`: when it began and its
    newest step, in nanoseconds since 1970 (-1: no step yet). `steps`: how many there were.
    `closed`: what the newest one takes off. `reserved`: proceeds of sales at auction, settlement
    currency. `taken_over`: whether the backstop has the account. Further keys tell of rejections,
    fills and settlements."""

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
