"""Responses of the routes that read the live book."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from enforcement.calls.call import Call
from market.sources.http import AccountMessage

Sort = Literal["deposit_to_meet", "headroom", "margin_ratio", "equity", "probability", "account_id"]


class AccountSummary(Struct, frozen=True):
    """How an account of the live book stands; amounts in the settlement currency.

    Amounts are null where the account has a `problem`. `state`, `since` and `deadline` are of its
    life cycle; `level_at` is when its level was set, null before; `margin_ratio` is maintenance
    margin over equity, null where equity is not above 0; `probability` is by horizon in hours,
    rounded to float32, null without a forecast; `suspect`: prices that wait for confirmation drive
    it.
    """

    account_id: str
    state: str
    since: str | None
    deadline: str | None
    sequence: int
    in_sync: bool
    updated_at: str
    equity: float | None
    maintenance_margin: float | None
    initial_margin: float | None
    headroom: float | None
    margin_ratio: float | None
    add_on: float | None
    deposit_to_meet: float | None
    total_requirement: float | None
    probability: dict[str, float] | None
    binding: str | None
    level_at: str | None
    suspect: bool
    problem: str | None = None


class AccountPage(Struct, frozen=True):
    """Accounts of the live book in the order that was asked for.

    `as_of`: time of the market; `evaluated_at`: time of the newest evaluation that states and
    levels come from, null before any; `total`: accounts that meet the conditions; `next_cursor` and
    `previous_cursor` lead to the next page and back, null where there is none; `first`: number of
    the first account of the page among those, from 1 on, 0 on an empty page.
    """

    as_of: str
    evaluated_at: str | None
    total: int
    accounts: list[AccountSummary]
    next_cursor: str | None
    previous_cursor: str | None
    first: int


class AccountDetail(Struct, frozen=True):
    """One account of the live book as it stands.

    `expected`: the number of the update that is missing, null in sync; `decision_id`: its newest
    recorded decision, null without one; `calls`: its open calls and the newest of those that ended,
    at most ten.
    """

    as_of: str
    evaluated_at: str | None
    account: AccountMessage
    expected: int | None
    evaluation: AccountSummary
    decision_id: str | None
    calls: list[Call]
