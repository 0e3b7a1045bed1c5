"""Messages about accounts and decisions: one definition decodes, validates and documents them.

The account itself is in `market.sources.http`, with bars and quotes.

Money is in the settlement currency, sizes in units of the underlying, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from market.sources.http import MAX_POSITIONS, AccountIn, Name, Time

MAX_ACCOUNTS = 20_000

Binding = Literal["floor", "model", "cap", "dead_band", "step", "release", "fallback"]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts to decide on, at `as_of` or now; with `explain` every decision is explained."""

    accounts: Annotated[list[AccountIn], Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    as_of: Time | None = None
    explain: bool = False

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "accounts": [
            {
                "account_id": "account-1",
                "cash": 20_000.0,
                "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.5}],
            }
        ]
    }


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

    `reasons` are the most important ones, at most three: what bound the level, then what is wrong
    with the data, then the largest rule floor. `explain` is there only where it was requested: the
    parts of margins, floors and level, and all reasons under ``reasons``.
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
    explain: dict[str, Any] | UnsetType = UNSET


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
