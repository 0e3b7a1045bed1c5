"""Messages of ``POST /v1/what-if``; units as in `decisions.messages`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from decisions.messages import MAX_ACCOUNTS, AccountChange, ScoreResponse
from margin.what_if.shocks import Shocks
from market.sources.http import AccountIn, Name, Time

MAX_LARGEST = 20
_MOST_MONEY = 1e15

Side = Literal["buy", "sell"]


class LargestIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A trade whose largest size is asked for."""

    account_id: Name
    instrument: Name
    side: Side


class WhatIfRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts as they stand, what would change, and what is asked of them as they stand; with
    `explain` every decision is explained.

    With `shocks` the decisions after the changes, and what is asked of the accounts, are those in
    the market after the shocks, see `decisions.what_if.shocks.shock_market`.
    """

    accounts: Annotated[list[AccountIn], Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    changes: Annotated[list[AccountChange], Meta(max_length=MAX_ACCOUNTS)] = []
    as_of: Time | None = None
    explain: bool = False
    shocks: Shocks | None = None
    target_headroom: Annotated[float, Meta(ge=-_MOST_MONEY, le=_MOST_MONEY)] | None = None
    marginal: bool = False
    largest: Annotated[list[LargestIn], Meta(max_length=MAX_LARGEST)] = []


class CutOut(Struct, frozen=True):
    """Closing a part of one position: what to trade, the share of the position, the cost, and the
    headroom afterwards."""

    instrument: str
    quantity: float
    share: float
    cost: float
    headroom: float


class RemediesOut(Struct, frozen=True):
    """What would bring an account to the target, see `margin.what_if.remedies.Remedies`."""

    account_id: str
    headroom: float
    target: float
    deposit: float
    single: list[CutOut]
    plan: list[CutOut]
    deposit_after_plan: float


class PositionMarginal(Struct, frozen=True):
    """What one position adds to the requirement; negative: it hedges."""

    instrument: str
    initial: float
    maintenance: float


class MarginalOut(Struct, frozen=True):
    """What each position of an account adds to its requirement."""

    account_id: str
    positions: list[PositionMarginal]


class LargestOut(Struct, frozen=True, omit_defaults=True):
    """The largest size that fits, signed; null where it is unlimited or could not be found."""

    account_id: str
    instrument: str
    side: Side
    quantity: float | None
    unlimited: bool
    detail: str | None = None


class WhatIfResponse(Struct, frozen=True):
    """Decisions before and after the change, and answers to what was asked; nothing was
    recorded."""

    before: ScoreResponse
    after: ScoreResponse
    remedies: list[RemediesOut] | UnsetType = UNSET
    marginal: list[MarginalOut] | UnsetType = UNSET
    largest: list[LargestOut] | UnsetType = UNSET
