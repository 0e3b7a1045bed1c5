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
    Meta(ge=1, le=2**53, description="Number of the update within its account: 1, 2, 3, …"),
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
    quantity: float
    price: _Price
    fee: float = 0.0


class DepositIn(Struct, frozen=True, forbid_unknown_fields=True, tag="deposit", tag_field="kind"):
    """An amount that came in."""

    asset: _Asset
    amount: _Amount


class WithdrawalIn(
    Struct, frozen=True, forbid_unknown_fields=True, tag="withdrawal", tag_field="kind"
):
    """An amount that went out."""

    asset: _Asset
    amount: _Amount


class FundingIn(Struct, frozen=True, forbid_unknown_fields=True, tag="funding", tag_field="kind"):
    """A funding payment in cash; negative: paid by the account."""

    amount: float
    instrument: Name | None = None


class TransferIn(Struct, frozen=True, forbid_unknown_fields=True, tag="transfer", tag_field="kind"):
    """A transfer between accounts as this one sees it; negative: it goes out."""

    asset: _Asset
    amount: float


Delta = FillIn | DepositIn | WithdrawalIn | FundingIn | TransferIn

_Positions = Annotated[list[PositionIn], Meta(max_length=MAX_POSITIONS)]
_Balances = Annotated[list[BalanceIn], Meta(max_length=MAX_POSITIONS)]


class SnapshotIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it stands: all its cash, positions and collateral."""

    cash: float
    positions: _Positions = []
    collateral: _Balances = []


class AccountSnapshotIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A full snapshot of the account that the path names."""

    sequence: SequenceNumber
    cash: float
    positions: _Positions = []
    collateral: _Balances = []
    ts: _When | None = None

    def update(self, account_id: str) -> AccountUpdateIn:
        """The same as one of several updates."""
        snapshot = SnapshotIn(self.cash, self.positions, self.collateral)
        return AccountUpdateIn(account_id, self.sequence, self.ts, snapshot)


class AccountUpdateIn(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One update of one account: either a `snapshot`, or `deltas`, which count together."""

    account_id: Name
    sequence: SequenceNumber
    ts: _When | None = None
    snapshot: SnapshotIn | None = None
    deltas: Annotated[list[Delta], Meta(min_length=1, max_length=MAX_DELTAS)] | None = None


class UpdatesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Updates of accounts, in the order in which they are to count."""

    updates: Annotated[list[AccountUpdateIn], Meta(min_length=1, max_length=MAX_UPDATES)]


UpdateStatus = Literal["applied", "duplicate", "conflict", "gap", "out_of_sync", "invalid"]


class UpdateResult(Struct, frozen=True, omit_defaults=True):
    """What became of an update.

    `applied`: it counts. `duplicate`: the account is at this number or a later one already, and
    nothing changed. `conflict`: the account is at this number by an update of other content.
    `gap`: an update before it is missing; the account is out of sync now. `out_of_sync`: the
    account waits for a snapshot. `invalid`: it cannot be applied, and its number is still expected.
    """

    account_id: str
    sequence: int
    status: UpdateStatus
    in_sync: bool
    expected: int
    """The number that the next delta must have."""
    detail: str = ""


class UpdatesResponse(Struct, frozen=True):
    """What became of each update, in the order of the request."""

    results: list[UpdateResult]
