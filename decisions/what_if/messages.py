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
    """Id of an account of the request."""
    instrument: Name
    """Instrument to trade."""
    side: Side
    """Whether to buy or to sell it."""


class WhatIfRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts as they stand, what would change, and what is asked of them as they stand."""

    accounts: Annotated[list[AccountIn], Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    """Accounts as they stand."""
    changes: Annotated[list[AccountChange], Meta(max_length=MAX_ACCOUNTS)] = []
    """Deposits and trades to try, at most one entry an account."""
    as_of: Time | None = None
    """Decision time; absent or null: now, by the clock of the endpoint."""
    explain: bool = False
    """Whether each decision comes with `explain`: its margins, floors and level in parts."""
    shocks: Shocks | None = None
    """Moves of the market in which the decisions after the changes, and what is asked of the
    accounts, are computed; null: none."""
    target_headroom: Annotated[float, Meta(ge=-_MOST_MONEY, le=_MOST_MONEY)] | None = None
    """Headroom to reach by the remedies, settlement currency; null: none are asked for."""
    marginal: bool = False
    """Whether to answer what each position adds to the requirement."""
    largest: Annotated[list[LargestIn], Meta(max_length=MAX_LARGEST)] = []
    """Trades whose largest size that fits is asked for."""


class CutOut(Struct, frozen=True):
    """Closing a part of one position."""

    instrument: str
    """Instrument to trade."""
    quantity: float
    """Signed quantity to trade, opposite to the position, in units of the underlying."""
    share: float
    """Share of the position that is closed, above 0 and at most 1."""
    cost: float
    """Cost of the trade, settlement currency."""
    headroom: float
    """Headroom afterwards, with the cuts before it done too, settlement currency."""


class RemediesOut(Struct, frozen=True):
    """What would bring an account to the target headroom."""

    account_id: str
    """Id of the account."""
    headroom: float
    """Headroom now, settlement currency."""
    target: float
    """Headroom to be reached, settlement currency."""
    deposit: float
    """Cash that suffices alone, rounded up to the cent, settlement currency; 0 where nothing is
    missing."""
    single: list[CutOut]
    """Cuts that suffice alone, the cheapest first."""
    plan: list[CutOut]
    """Cuts in the order to make them, the cheapest way found; a share is of what is left."""
    deposit_after_plan: float
    """Cash that is still missing after the plan, settlement currency."""


class PositionMarginal(Struct, frozen=True):
    """What one position adds to the requirement; negative: it hedges."""

    instrument: str
    """Instrument of the position."""
    initial: float
    """Initial margin that it adds, settlement currency; negative: it hedges."""
    maintenance: float
    """Maintenance margin that it adds, settlement currency; negative: it hedges."""


class MarginalOut(Struct, frozen=True):
    """What each position of an account adds to its requirement."""

    account_id: str
    """Id of the account."""
    positions: list[PositionMarginal]
    """What each of its positions adds."""


class LargestOut(Struct, frozen=True, omit_defaults=True):
    """The largest size of a trade that fits."""

    account_id: str
    """Id of the account."""
    instrument: str
    """Instrument to trade."""
    side: Side
    """Whether it is bought or sold."""
    quantity: float | None
    """Signed quantity in units of the underlying; null where it is unlimited or could not be found.
    """
    unlimited: bool
    """Whether any size fits."""
    detail: str | None = None
    """Why no size was found; absent where one was."""


class WhatIfResponse(Struct, frozen=True):
    """Decisions before and after the change, and answers to what was asked; nothing was
    recorded."""

    before: ScoreResponse
    """Decisions on the accounts as they stand."""
    after: ScoreResponse
    """Decisions after changes and shocks."""
    remedies: list[RemediesOut] | UnsetType = UNSET
    """Remedies of each account; absent without `target_headroom`."""
    marginal: list[MarginalOut] | UnsetType = UNSET
    """What positions add to the requirement; absent unless requested."""
    largest: list[LargestOut] | UnsetType = UNSET
    """Sizes of the trades asked for; absent where none was."""
