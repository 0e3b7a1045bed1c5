"""What travels over HTTP: one definition gives decoding, validation and the OpenAPI page.

What tells of bars, quotes and accounts stands in `market.sources.http`.

Money is in the settlement currency, sizes in units of the underlying, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from market.sources.http import MAX_POSITIONS, AccountIn, BarIn, Name, Time

MAX_ACCOUNTS = 20_000
MAX_BARS = 20_000

BarStatus = Literal["applied", "duplicate", "late", "corrected", "suspect", "rejected"]
Binding = Literal["floor", "model", "cap", "dead_band", "step", "release", "fallback"]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts to decide on, at `as_of` or now."""

    accounts: Annotated[list[AccountIn], Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    as_of: Time | None = None


class PositionChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Quantity added to a position (negative to sell)."""

    instrument: Name
    quantity_delta: float


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What would change in one account."""

    account_id: Name
    deposit: float = 0.0
    positions: Annotated[list[PositionChange], Meta(max_length=MAX_POSITIONS)] = []


class Reason(Struct, frozen=True):
    """One reason for a decision: what, and how much it weighs."""

    kind: Literal["bound", "rule", "model", "data"]
    name: str
    value: float | None
    text: str


class MarkUsed(Struct, frozen=True, omit_defaults=True):
    """A mark price that an account was valued at: where it comes from and how old it was.

    `stale`: neither a fresh quoted mark nor a fresh bar close exists. `suspect`: the outlier
    filter has not confirmed the price yet. Of an option the price is its value at its forward and
    vol, and the age that of the older of the two.
    """

    instrument: str
    price: float
    source: Literal["quote", "bar"]
    age_seconds: float | None
    stale: bool = False
    suspect: bool = False


class Valuation(Struct, frozen=True):
    """An account at one set of prices."""

    equity: float
    initial_margin: float
    maintenance_margin: float
    headroom: float


class Valuations(Struct, frozen=True):
    """An account at the last good prices and at those that wait for confirmation. The lower
    headroom of the two drives the decision."""

    last_good: Valuation
    suspect: Valuation


class Decision(Struct, frozen=True, kw_only=True):
    """The decision on one account.

    `total_requirement` is maintenance margin plus add-on; `opening_requirement`, what new risk
    must meet, is ``max(initial margin, maintenance margin + unpaced add-on)``. `valuations` is
    there only while a price of the account waits for confirmation.
    """

    decision_id: str | UnsetType = UNSET
    account_id: str
    as_of: str
    equity: float
    initial_margin: float
    maintenance_margin: float
    headroom: float
    probability: dict[str, float] | None
    add_on: float
    total_requirement: float
    opening_requirement: float
    deposit_to_meet: float
    floor: float
    model_add_on: float | None
    cap: float
    binding: Binding
    degraded: str | None
    reasons: list[Reason]
    model: str | None
    ruleset: str
    marks: list[MarkUsed]
    valuations: Valuations | UnsetType = UNSET
    explain: dict[str, Any]


class AccountProblem(Struct, frozen=True, omit_defaults=True):
    """Why an account was not decided on; the others were."""

    account_id: str
    type: str
    detail: str
    instrument: str | None = None


class ScoreResponse(Struct, frozen=True):
    """Decisions, and the accounts that could not be decided on."""

    decisions: list[Decision]
    errors: list[AccountProblem]


class BarsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Bars that have closed.

    `final`: their steps and all before them are complete; they count and take no more bars.
    `correct` (scope `admin`): bars that are late are corrections, which count from the next step.
    """

    interval: str
    bars: Annotated[list[BarIn], Meta(min_length=1, max_length=MAX_BARS)]
    final: bool = False
    correct: bool = False


class BarResult(Struct, frozen=True, omit_defaults=True):
    """What became of one bar."""

    symbol: str
    ts: str
    status: BarStatus
    detail: str | None = None


class BarsResponse(Struct, frozen=True):
    """Results in the order of the bars, and the close of the newest step that counts."""

    results: list[BarResult]
    as_of: str | None


class Problem(Struct, frozen=True, omit_defaults=True):
    """A machine-readable problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[AccountProblem] = []
