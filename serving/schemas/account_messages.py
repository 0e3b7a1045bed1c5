"""Responses of the routes that read the live book."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from enforcement.calls.call import Call
from market.sources.http import AccountMessage

Sort = Literal["deposit_to_meet", "headroom", "margin_ratio", "equity", "probability", "account_id"]


class AccountSummary(Struct, frozen=True):
    """An account of the live book as it stands; amounts are null where it has a `problem`."""

    account_id: str
    """Id of the account."""
    state: str
    """State of its life cycle, like `healthy`, `warning` or `called`."""
    since: str | None
    """When it came into that state; null before any evaluation."""
    deadline: str | None
    """When time alone changes the state; null where it does not."""
    sequence: int
    """Number of its newest update."""
    in_sync: bool
    """Whether no update of it is missing."""
    updated_at: str
    """When its newest update held."""
    equity: float | None
    """Cash, collateral after haircuts and profit or loss of the positions, settlement currency;
    null with a problem."""
    maintenance_margin: float | None
    """Maintenance margin, settlement currency; null with a problem."""
    initial_margin: float | None
    """Initial margin, settlement currency; null with a problem."""
    headroom: float | None
    """Equity minus maintenance margin, settlement currency; null with a problem."""
    margin_ratio: float | None
    """Maintenance margin over equity; null where equity is not above 0."""
    add_on: float | None
    """Margin required beyond maintenance margin, settlement currency; null with a problem."""
    deposit_to_meet: float | None
    """Deposit that brings headroom up to the add-on, settlement currency; null with a problem."""
    total_requirement: float | None
    """Maintenance margin plus add-on, settlement currency; null with a problem."""
    probability: dict[str, float] | None
    """Probability, 0 to 1, that headroom falls to 0 within each horizon (key: hours), rounded to
    float32; null without a forecast."""
    binding: str | None
    """What set the add-on, as in a decision; null with a problem or before a level was set."""
    level_at: str | None
    """When its add-on was set; null before."""
    suspect: bool
    """Whether prices that wait for confirmation drive it."""
    problem: str | None = None
    """Why it could not be evaluated; null where it was."""


class AccountPage(Struct, frozen=True):
    """Accounts of the live book in the order that was asked for."""

    as_of: str
    """Time of the market."""
    evaluated_at: str | None
    """Time of the newest evaluation that states and levels come from; null before any."""
    total: int
    """Number of accounts that meet the conditions."""
    accounts: list[AccountSummary]
    """Accounts of this page."""
    next_cursor: str | None
    """Cursor of the next page; null on the last."""
    previous_cursor: str | None
    """Cursor of the page before; null on the first."""
    first: int
    """Number of the first account of the page among all that meet the conditions, from 1; 0 on an
    empty page."""


class AccountDetail(Struct, frozen=True):
    """One account of the live book as it stands."""

    as_of: str
    """Time of the market."""
    evaluated_at: str | None
    """Time of the newest evaluation that state and level come from; null before any."""
    account: AccountMessage
    """Cash, positions and collateral."""
    expected: int | None
    """Number of the update that is missing; null in sync."""
    evaluation: AccountSummary
    """How it stands."""
    decision_id: str | None
    """Id of its newest recorded decision; null without one."""
    calls: list[Call]
    """Its open calls and the newest of those that ended, at most ten."""
