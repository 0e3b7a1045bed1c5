"""Messages about accounts and decisions: one definition decodes, validates and documents them.

The account itself is in `market.sources.http`, with bars and quotes.

Money is in the settlement currency, sizes in units of the underlying, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from market.sources.http import MAX_POSITIONS, AccountIn, Name, Time

MAX_ACCOUNTS = 20_000

Binding = Literal["floor", "model", "cap", "dead_band", "step", "release", "fallback"]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts to decide on."""

    accounts: Annotated[list[AccountIn], Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    """Accounts as they stand, each decided on by itself."""
    as_of: Time | None = None
    """Decision time; absent or null: now, by the clock of the endpoint. Not before the close of the
    newest bar."""
    explain: bool = False
    """Whether each decision comes with `explain`: its margins, floors and level in parts."""


class PositionChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Quantity added to a position (negative to sell)."""

    instrument: Name
    """Instrument to trade, like `BTCUSDT-PERP` or `BTC-27MAR26-60000-C`."""
    quantity_delta: float
    """Quantity added to the position, in units of the underlying; negative sells."""


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What would change in one account."""

    account_id: Name
    """Id of an account of the request."""
    deposit: float = 0.0
    """Cash that is added, in the settlement currency; negative: withdrawn."""
    positions: Annotated[list[PositionChange], Meta(max_length=MAX_POSITIONS)] = []
    """Trades at the marks of the decision."""


class Reason(Struct, frozen=True):
    """One reason for a decision: what, and how much it weighs."""

    kind: Literal["bound", "rule", "model", "data"]
    """What it is about: what bound the add-on, a rule floor, the forecast, or the data."""
    name: str
    """Short name, like that of a floor, a feature or a data fault."""
    value: float | None
    """How much it weighs, in the unit that `text` names; null where it has no size."""
    text: str
    """The reason as a sentence."""


class MarkUsed(Struct, frozen=True, omit_defaults=True):
    """A mark price that an account was valued at: where it comes from and how old it was."""

    instrument: str
    """Instrument that was valued."""
    price: float
    """Mark price in the settlement currency; of an option its value at the forward and vol of its
    expiry."""
    source: Literal["quote", "bar"]
    """Whether it is a quoted mark or the close of a bar."""
    age_seconds: float | None
    """Seconds from the price to the decision time, of an option those of the older of forward and
    vol; null where there is no time."""
    stale: bool = False
    """Whether neither a fresh quoted mark nor a fresh bar close exists; absent: no."""
    suspect: bool = False
    """Whether the outlier filter has not confirmed the price yet; absent: no."""


class Valuation(Struct, frozen=True):
    """An account at one set of prices."""

    equity: float
    """Cash, collateral after haircuts and profit or loss of the positions, settlement currency."""
    initial_margin: float
    """Initial margin, settlement currency."""
    maintenance_margin: float
    """Maintenance margin, settlement currency."""
    headroom: float
    """Equity minus maintenance margin, settlement currency."""


class Valuations(Struct, frozen=True):
    """An account at the last good prices and at those that wait for confirmation. The lower
    headroom of the two drives the decision."""

    last_good: Valuation
    """At the newest confirmed prices."""
    suspect: Valuation
    """With the prices that wait for confirmation."""


class Decision(Struct, frozen=True, kw_only=True):
    """The decision on one account."""

    decision_id: str | UnsetType = UNSET
    """Id of the recorded decision, to read and explain it by; absent where nothing is recorded."""
    account_id: str
    """Id of the account."""
    as_of: str
    """Decision time."""
    equity: float
    """Cash, collateral after haircuts and profit or loss of the positions, settlement currency."""
    initial_margin: float
    """Initial margin, settlement currency."""
    maintenance_margin: float
    """Maintenance margin, settlement currency."""
    headroom: float
    """Equity minus maintenance margin, settlement currency; below 0 the account is below its
    maintenance margin."""
    probability: dict[str, float] | None
    """Probability, 0 to 1, that headroom falls to 0 within each horizon (key: hours); null without
    a forecast."""
    add_on: float
    """Margin required beyond maintenance margin, settlement currency."""
    total_requirement: float
    """Maintenance margin plus add-on, settlement currency."""
    opening_requirement: float
    """What equity must cover before new risk is taken: max(initial margin, maintenance margin +
    add-on before pacing), settlement currency."""
    deposit_to_meet: float
    """Deposit that brings headroom up to the add-on, settlement currency; 0 where none is missing.
    """
    floor: float
    """Largest rule floor, settlement currency; the add-on does not go below it."""
    model_add_on: float | None
    """Add-on that the forecast asks for, settlement currency; null without a forecast."""
    cap: float
    """Most that the forecast may raise the add-on to, settlement currency."""
    binding: Binding
    """What set the add-on: a bound, the forecast, the pace of its changes, or the fallback to the
    rule floor."""
    degraded: str | None
    """Why there is no forecast, so that the rule floor decides; null where there is one."""
    reasons: list[Reason]
    """Most important reasons, at most three: what bound the add-on, faults of the data, the largest
    rule floor."""
    model: str | None
    """SHA-256 of the model bundle; null where none was in use."""
    ruleset: str
    """SHA-256 of the rule set."""
    marks: list[MarkUsed]
    """Prices that the account was valued at."""
    valuations: Valuations | UnsetType = UNSET
    """The account at both sets of prices, of which the lower headroom drives the decision; absent
    unless a price of it waits for confirmation."""
    explain: dict[str, Any] | UnsetType = UNSET
    """Margins, floors and level in parts, and all reasons under `reasons`; absent unless requested.
    """


class AccountProblem(Struct, frozen=True, omit_defaults=True):
    """Why an account was not decided on; the others were."""

    account_id: str
    """Id of the account as it was sent."""
    type: str
    """What it is about: `instrument` or `account`, that the id occurs twice (`duplicate`), that the
    newest record of the account was altered (`altered-record`), or that its decision cannot be
    recorded (`unrecordable`)."""
    detail: str
    """What was given, what was expected, and what to do."""
    instrument: str | None = None
    """Instrument at fault; absent where it is not one."""


class ScoreResponse(Struct, frozen=True):
    """Decisions, and the accounts that could not be decided on."""

    decisions: list[Decision]
    """Decisions in the order of the accounts; those with problems are left out."""
    errors: list[AccountProblem]
    """Problems of single accounts; empty where every account was decided on."""
