"""Messages of the live book: snapshots and changes of accounts, and what became of each.

Money is in the settlement currency, sizes in units of the underlying, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from market.sources.http import MAX_POSITIONS, BalanceIn, Name, PositionIn, Time

MAX_UPDATES = 20_000
"""Most updates of one call."""

MAX_DELTAS = 1_000
"""Most changes of one update."""

SequenceNumber = Annotated[
    int,
    Meta(
        ge=1, le=2**53, description="Number of the update within its account, from 1 without gaps."
    ),
]
_When = Annotated[Time, Meta(description="When it held; absent: the decision time now.")]
_Amount = Annotated[float, Meta(gt=0)]
_Price = Annotated[float, Meta(gt=0)]
_Asset = Annotated[
    Name, Meta(description="USD changes the cash of the account, any other asset its collateral.")
]


class FillIn(Struct, frozen=True, forbid_unknown_fields=True, tag="fill", tag_field="kind"):
    """A trade: signed quantity (negative sells), price, and the fee paid in cash.

    Of a linear instrument the entry price becomes the average of what is held; what is closed
    pays its profit or loss to cash. Of an option the premium is paid from cash.
    """

    instrument: Name
    """Instrument that was traded."""
    quantity: float
    """Signed quantity in units of the underlying; negative sells."""
    price: _Price
    """Price of the trade, settlement currency."""
    fee: float = 0.0
    """Fee paid in cash, settlement currency; negative: a rebate."""


class DepositIn(Struct, frozen=True, forbid_unknown_fields=True, tag="deposit", tag_field="kind"):
    """An amount that came in."""

    asset: _Asset
    amount: _Amount
    """Amount in units of the asset."""


class WithdrawalIn(
    Struct, frozen=True, forbid_unknown_fields=True, tag="withdrawal", tag_field="kind"
):
    """An amount that went out."""

    asset: _Asset
    amount: _Amount
    """Amount in units of the asset."""


class FundingIn(Struct, frozen=True, forbid_unknown_fields=True, tag="funding", tag_field="kind"):
    """A funding payment in cash."""

    amount: float
    """Payment in the settlement currency; negative: paid by the account."""
    instrument: Name | None = None
    """Perpetual that paid; null where the payment is of several."""


class TransferIn(Struct, frozen=True, forbid_unknown_fields=True, tag="transfer", tag_field="kind"):
    """A transfer between accounts as this one sees it; negative: it goes out."""

    asset: _Asset
    amount: float
    """Amount in units of the asset; negative: it goes out."""


Delta = FillIn | DepositIn | WithdrawalIn | FundingIn | TransferIn

_Positions = Annotated[list[PositionIn], Meta(max_length=MAX_POSITIONS)]
_Balances = Annotated[list[BalanceIn], Meta(max_length=MAX_POSITIONS)]


class SnapshotIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it stands: all its cash, positions and collateral."""

    cash: float
    """Cash balance in the settlement currency; negative is owed."""
    positions: _Positions = []
    """All open positions, one an instrument."""
    collateral: _Balances = []
    """All balances of other assets."""


class AccountSnapshotIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A full snapshot of the account that the path names."""

    sequence: SequenceNumber
    cash: float
    """Cash balance in the settlement currency; negative is owed."""
    positions: _Positions = []
    """All open positions, one an instrument."""
    collateral: _Balances = []
    """All balances of other assets."""
    ts: _When | None = None

    def update(self, account_id: str) -> AccountUpdateIn:
        """The same as one of several updates."""
        snapshot = SnapshotIn(self.cash, self.positions, self.collateral)
        return AccountUpdateIn(account_id, self.sequence, self.ts, snapshot)


class AccountUpdateIn(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One update of one account: either a `snapshot`, or `deltas`, which count together."""

    account_id: Name
    """Id of the account."""
    sequence: SequenceNumber
    ts: _When | None = None
    snapshot: SnapshotIn | None = None
    """The account as it stands; null where the update has `deltas`."""
    deltas: Annotated[list[Delta], Meta(min_length=1, max_length=MAX_DELTAS)] | None = None
    """Changes that count together; null where the update has a `snapshot`."""


class UpdatesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Updates of accounts, in the order in which they are to count."""

    updates: Annotated[list[AccountUpdateIn], Meta(min_length=1, max_length=MAX_UPDATES)]
    """Updates in the order in which they are to count."""


UpdateStatus = Literal["applied", "duplicate", "conflict", "gap", "out_of_sync", "invalid"]


class UpdateResult(Struct, frozen=True, omit_defaults=True):
    """What became of an update."""

    account_id: str
    """Id of the account."""
    sequence: int
    """Number of the update."""
    status: UpdateStatus
    """`applied`: it counts. `duplicate`: the account is at this number or a later one already, and
    nothing changed. `conflict`: the account is at this number by an update of other content. `gap`:
    an update before it is missing; the account is out of sync now. `out_of_sync`: the account waits
    for a snapshot. `invalid`: it cannot be applied, and its number is still expected."""
    in_sync: bool
    """Whether no update of the account is missing now."""
    expected: int
    """The number that the next delta must have."""
    detail: str = ""
    """What to do; absent where it is applied."""


class UpdatesResponse(Struct, frozen=True):
    """What became of each update, in the order of the request."""

    results: list[UpdateResult]
    """Results in the order of the request."""
