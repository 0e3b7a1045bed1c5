"""An account of the live book, and how an update changes it: pure functions.

Every account has a sequence of updates of its own, numbered 1, 2, 3, …. Quantities and cash are
added as decimals, so that what was bought in parts and sold at once leaves no remainder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

import msgspec

from ledger.canonical import canonical_bytes, sha256_hex
from market.accounts.book import SETTLEMENT_CURRENCY, Account, Balance, Position
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from market.sources.http import MAX_POSITIONS
from monitoring.book.messages import (
    AccountUpdateIn,
    Delta,
    DepositIn,
    FillIn,
    FundingIn,
    SnapshotIn,
    UpdateResult,
    UpdateStatus,
    WithdrawalIn,
)

_DIGITS = 60
"""Digits of intermediate results: more than sums of float64 of like size need."""


@dataclass(frozen=True, slots=True)
class BookAccount:
    """An account after its newest update.

    Attributes
    ----------
    account:
        As it stands; positions and collateral in the order of their first update.
    sequence:
        Number of the newest update that counts; 0 before any.
    as_of:
        When that update held, nanoseconds.
    expected:
        The number that was missing when a later one came; None while the account is in sync.
    update_sha256:
        SHA-256 of the content of the newest update.
    """

    account: Account
    sequence: int
    as_of: int
    expected: int | None
    update_sha256: str

    @property
    def in_sync(self) -> bool:
        """Whether no update is known to be missing."""
        return self.expected is None


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of an update.

    Attributes
    ----------
    result:
        What the sender is told.
    after:
        The account after it; None where nothing changed.
    """

    result: UpdateResult
    after: BookAccount | None


def apply_update(
    before: BookAccount | None, update: AccountUpdateIn, as_of: int, sha256: str | None = None
) -> Applied:
    """Apply an update to an account.

    A snapshot counts if its number is above that of the account, whatever lies between, and ends a
    state out of sync. Deltas count if their number is the next one and the account is in sync.

    Parameters
    ----------
    before:
        The account; None where there is none yet.
    update:
        The update.
    as_of:
        When it held, nanoseconds.
    sha256:
        Its `update_sha256`, where that is known.

    Returns
    -------
    Never raises for the content of an update: the result says what is wrong with it.
    """
    current = 0 if before is None else before.sequence
    sha256 = sha256 or update_sha256(update)
    if update.sequence <= current and before is not None:
        return _repeated(before, update, sha256)
    try:
        if update.snapshot is not None and update.deltas is None:
            account = _of_snapshot(update.account_id, update.snapshot)
        elif update.deltas is not None and update.snapshot is None:
            refused = _out_of_order(before, update, as_of)
            if refused is not None:
                return refused
            held = before.account if before is not None else Account(update.account_id, 0.0)
            account = apply_deltas(held, update.deltas)
        else:
            raise DataError("it must hold either a snapshot or deltas")
    except DataError as error:
        expected = current + 1
        in_sync = before is None or before.in_sync
        detail = f"update {update.sequence} of account {update.account_id!r}: {error}"
        return Applied(_result(update, "invalid", in_sync, expected, detail), None)
    after = BookAccount(account, update.sequence, as_of, None, sha256)
    return Applied(_result(update, "applied", True, update.sequence + 1), after)


def update_sha256(update: AccountUpdateIn) -> str:
    """SHA-256 of the content of an update: its account, number and changes, as they were sent.

    Its time does not count: two sources that tell the same of an account do not contradict.
    """
    content = msgspec.to_builtins(msgspec.structs.replace(update, ts=None))
    return sha256_hex(canonical_bytes(content, text_keys=True))


def _repeated(before: BookAccount, update: AccountUpdateIn, sha256: str) -> Applied:
    expected = before.sequence + 1
    if update.sequence == before.sequence and sha256 != before.update_sha256:
        detail = (
            f"account {update.account_id!r} is at update {update.sequence} by one of other "
            f"content; an update never changes, send number {expected}"
        )
        return Applied(_result(update, "conflict", before.in_sync, expected, detail), None)
    return Applied(_result(update, "duplicate", before.in_sync, expected), None)


def _out_of_order(
    before: BookAccount | None, update: AccountUpdateIn, as_of: int
) -> Applied | None:
    """The answer to deltas that cannot count by their number; None where they can."""
    current = 0 if before is None else before.sequence
    expected = current + 1
    name = f"account {update.account_id!r}"
    if before is not None and not before.in_sync:
        detail = (
            f"{name} is out of sync since update {before.expected} is missing; send a snapshot "
            f"with a number above {current}"
        )
        return Applied(_result(update, "out_of_sync", False, expected, detail), None)
    if update.sequence == expected:
        return None
    detail = (
        f"update {update.sequence} of {name} came where {expected} was expected: updates are "
        "missing; the account is out of sync until a snapshot arrives"
    )
    result = _result(update, "gap", False, expected, detail)
    if before is None:
        before = BookAccount(Account(update.account_id, 0.0), 0, as_of, None, "")
    return Applied(result, replace(before, expected=expected))


def _result(
    update: AccountUpdateIn, status: UpdateStatus, in_sync: bool, expected: int, detail: str = ""
) -> UpdateResult:
    return UpdateResult(update.account_id, update.sequence, status, in_sync, expected, detail)


def _of_snapshot(account_id: str, snapshot: SnapshotIn) -> Account:
    positions = tuple(
        Position(leg.instrument, leg.quantity, leg.entry_price) for leg in snapshot.positions
    )
    collateral = tuple(Balance(one.asset, one.amount) for one in snapshot.collateral)
    _check_once([leg.instrument for leg in positions], "instrument")
    _check_once([balance.asset for balance in collateral], "asset")
    for leg in positions:
        parse_instrument(leg.instrument)
        if leg.entry_price is not None and not leg.entry_price > 0.0:
            raise DataError(
                f"{leg.instrument!r} has the entry price {leg.entry_price}; expected one above 0"
            )
    return Account(account_id, snapshot.cash, positions, collateral)


def _check_once(names: Sequence[str], what: str) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"it names the {what} {twice[0]!r} more than once; give its net amount")


def apply_deltas(account: Account, deltas: Sequence[Delta]) -> Account:
    """The account after changes that count together.

    Raises
    ------
    DataError
        A change cannot be applied: a position without an entry price is traded, a number is not
        finite, or there would be too many positions.
    """
    positions = {leg.instrument: leg for leg in account.positions}
    balances = {balance.asset: balance.amount for balance in account.collateral}
    cash = account.cash
    for delta in deltas:
        if isinstance(delta, FillIn):
            cash = _fill(positions, cash, delta)
        elif isinstance(delta, FundingIn):
            cash = _add(cash, delta.amount)
        else:
            amount = -delta.amount if isinstance(delta, WithdrawalIn) else delta.amount
            if isinstance(delta, DepositIn | WithdrawalIn) and not delta.amount > 0.0:
                raise DataError(f"the amount is {delta.amount}; expected one above 0")
            if delta.asset == SETTLEMENT_CURRENCY:
                cash = _add(cash, amount)
            else:
                balances[delta.asset] = _add(balances.get(delta.asset, 0.0), amount)
                if balances[delta.asset] == 0.0:
                    del balances[delta.asset]
    if len(positions) > MAX_POSITIONS or len(balances) > MAX_POSITIONS:
        raise DataError(f"it would leave more than {MAX_POSITIONS} positions or balances")
    return Account(
        account.account_id,
        cash,
        tuple(positions.values()),
        tuple(Balance(asset, amount) for asset, amount in balances.items()),
    )


def _fill(positions: dict[str, Position], cash: float, fill: FillIn) -> float:
    """Book a trade; returns the cash after it.

    With q held at entry e, a fill of d at p in the same direction gives the entry
    ``(q e + d p) / (q + d)``; in the other direction ``min(|q|, |d|) sign(q) (p - e)`` is realised
    at e, and what goes beyond q is entered at p. A linear instrument pays what is realised to cash;
    an option pays ``d p`` from cash instead. `decisions.what_if.changes` does the same at the mark.
    """
    if fill.quantity == 0.0 or not math.isfinite(fill.quantity):
        raise DataError(f"the quantity is {fill.quantity}; expected a finite number other than 0")
    premium = parse_instrument(fill.instrument).kind == "option"
    if premium:
        cash = _add(cash, _exact(-fill.quantity, fill.price))
    held = positions.get(fill.instrument)
    quantity = 0.0 if held is None else held.quantity
    after = _add(quantity, fill.quantity)
    entry: float | None = fill.price
    if held is None or quantity == 0.0:
        pass
    elif held.entry_price is None:
        if not premium:
            raise DataError(
                f"the position in {fill.instrument!r} has no entry price, so that its profit "
                "is not known; send a snapshot with entry prices before its fills"
            )
        entry = None
    elif (quantity > 0.0) == (fill.quantity > 0.0):
        entry = _average(quantity, held.entry_price, fill)
    else:
        if not premium:
            closed = math.copysign(min(abs(quantity), abs(fill.quantity)), quantity)
            cash = _add(cash, _profit(closed, held.entry_price, fill.price))
        if abs(fill.quantity) <= abs(quantity):
            entry = held.entry_price
    if after == 0.0:
        positions.pop(fill.instrument, None)
    else:
        positions[fill.instrument] = Position(fill.instrument, after, entry)
    return _add(cash, -fill.fee)


def _add(first: float, second: float) -> float:
    """The sum of two decimals as they are written, rounded once to float64."""
    if not (math.isfinite(first) and math.isfinite(second)):
        raise DataError(f"{second} is added to {first}; expected finite numbers")
    with localcontext(prec=_DIGITS):
        return _finite(Decimal(repr(first)) + Decimal(repr(second)))


def _exact(first: float, second: float) -> float:
    with localcontext(prec=_DIGITS):
        return _finite(Decimal(repr(first)) * Decimal(repr(second)))


def _profit(quantity: float, entry: float, price: float) -> float:
    with localcontext(prec=_DIGITS):
        return _finite(Decimal(repr(quantity)) * (Decimal(repr(price)) - Decimal(repr(entry))))


def _average(quantity: float, entry: float, fill: FillIn) -> float:
    with localcontext(prec=_DIGITS):
        held, added = Decimal(repr(quantity)), Decimal(repr(fill.quantity))
        paid = held * Decimal(repr(entry)) + added * Decimal(repr(fill.price))
        return _finite(paid / (held + added))


def _finite(value: Decimal) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise DataError("an amount exceeds what float64 can hold; check the sizes")
    return number
