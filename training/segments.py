"""Pieces of account life during which the book does not change.

A segment is one book over a range of decision times. Sampled lives are one segment each; recorded
accounts give one segment a snapshot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.requirement import collateral_rate
from margin.ruleset import RuleSet
from market.account_files import AccountHistory
from market.errors import DataError
from market.instruments import parse_instrument
from market.population import Lives

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """N segments of A accounts, in order of account and time.

    Equity at marks m is ``cash + sum value_quantity * m``, notional ``|margin_quantity| * m``: a
    position counts in both (its entry is in `cash`), collateral only in the first.

    Attributes
    ----------
    account:
        Index into `account_ids`, shape (N,).
    account_ids:
        Length A.
    account_key:
        A 64-bit hash of each account, by which rows are chosen; uint64, shape (A,).
    first_row, last_row:
        Decision rows during which the book is held: ``first_row <= row < last_row``.
    cash:
        Settlement currency, shape (N,).
    leg_start:
        Offsets into the legs, shape (N + 1,).
    leg_symbol, leg_value_quantity, leg_margin_quantity:
        Shape (L,).
    """

    account: Ints
    account_ids: tuple[str, ...]
    account_key: npt.NDArray[np.uint64]
    first_row: Ints
    last_row: Ints
    cash: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_value_quantity: Floats
    leg_margin_quantity: Floats

    def __len__(self) -> int:
        return len(self.account)


def from_lives(lives: Lives) -> Segments:
    """Segments of sampled lives: one each."""
    counts = np.diff(lives.leg_start)
    owner = np.repeat(np.arange(len(counts)), counts)
    invested = np.zeros(len(counts))
    np.add.at(invested, owner, lives.leg_quantity * lives.leg_entry_price)
    ids = tuple(lives.account_id(i) for i in range(len(counts)))
    return Segments(
        account=np.arange(len(counts), dtype=np.int64),
        account_ids=ids,
        account_key=account_keys(ids),
        first_row=lives.birth_row,
        last_row=lives.end_row,
        cash=lives.cash - invested,
        leg_start=lives.leg_start,
        leg_symbol=lives.leg_symbol,
        leg_value_quantity=lives.leg_quantity,
        leg_margin_quantity=lives.leg_quantity,
    )


def from_history(
    history: AccountHistory,
    decision_times: Ints,
    symbols: tuple[str, ...],
    mark: Floats,
    ruleset: RuleSet,
) -> Segments:
    """Segments of recorded accounts: from each snapshot to the next.

    A position without an entry price entered at the mark of its snapshot's decision time.

    Raises
    ------
    DataError
        An instrument or asset has no bars, or is nothing the rule set knows.
    """
    column = {symbol: i for i, symbol in enumerate(symbols)}
    accounts: list[int] = []
    first: list[int] = []
    last: list[int] = []
    cash: list[float] = []
    legs: list[tuple[int, float, float]] = []
    starts = [0]
    ids = history.account_ids
    for a, account_id in enumerate(ids):
        times = history.snapshot_times(account_id)
        rows = np.searchsorted(decision_times, times)
        ends = np.append(rows[1:], len(decision_times))
        for time, begin, end in zip(times, rows, ends, strict=True):
            if begin >= end:
                continue  # replaced before the next decision
            account = history.account_at(account_id, int(time))
            money = account.cash
            for position in account.positions:
                s = _column(
                    column, parse_instrument(position.instrument).symbol, position.instrument
                )
                entry = mark[begin, s] if position.entry_price is None else position.entry_price
                money -= position.quantity * entry
                legs.append((s, position.quantity, position.quantity))
            for balance in account.collateral:
                s = _column(column, f"{balance.asset}USDT", balance.asset)
                # A debt counts in full: a haircut never makes it smaller.
                rate = collateral_rate(ruleset, balance.asset) if balance.amount > 0.0 else 1.0
                legs.append((s, rate * balance.amount, 0.0))
            accounts.append(a)
            first.append(int(begin))
            last.append(int(end))
            cash.append(money)
            starts.append(len(legs))
    return Segments(
        account=np.array(accounts, dtype=np.int64),
        account_ids=ids,
        account_key=account_keys(ids),
        first_row=np.array(first, dtype=np.int64),
        last_row=np.array(last, dtype=np.int64),
        cash=np.array(cash, dtype=np.float64),
        leg_start=np.array(starts, dtype=np.int64),
        leg_symbol=np.array([leg[0] for leg in legs], dtype=np.int64),
        leg_value_quantity=np.array([leg[1] for leg in legs], dtype=np.float64),
        leg_margin_quantity=np.array([leg[2] for leg in legs], dtype=np.float64),
    )


def account_keys(ids: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    """First eight bytes of the SHA-256 of each account id."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _column(column: dict[str, int], symbol: str, given: str) -> int:
    try:
        return column[symbol]
    except KeyError:
        raise DataError(
            f"{given!r} in the account files has no bars (symbol {symbol}); "
            "add its bars to [market] bars or leave it out"
        ) from None
