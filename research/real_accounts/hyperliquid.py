"""Rebuild the accounts of Hyperliquid's published records of February to May 2023.

The records hold every trade, deposit and withdrawal and every liquidation; positions follow
exactly, cash does not: funding, fees and some transfers are missing, so that many a rebuilt cash
balance stands off zero after a liquidation that took everything. Where a **cross** liquidation
leaves the account flat, its true cash is zero, and the difference is booked as a transfer of kind
``unexplained`` when the positions of that liquidation were opened (``anchored``). The venue knew
the true equity all that time, so this is no use of the future, but only liquidated accounts are put
right. An **isolated** liquidation takes one position and its own margin, which the records do not
tell: it is an event of its own kind, and nothing is anchored on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from market.accounts.account_files import AccountHistory, Event, write_accounts
from market.accounts.book import Account, Book
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from research.real_accounts.account_log import AccountLog

DEPOSIT, WITHDRAWAL, UNEXPLAINED = "deposit", "withdrawal", "unexplained"
LIQUIDATION, ISOLATED_LIQUIDATION = "liquidation", "isolated_liquidation"
"""Kinds of event; the amount of a liquidation is its notional."""

FOLDER = "accounts_hyperliquid_2023"
_TRADES = ("non_mm_trades.parquet", ("ts", "user", "coin", "side", "px", "sz"))
_LEDGER = ("non_mm_ledger_updates.parquet", ("ts", "user", "delta_usd"))
_LIQUIDATIONS = (
    "liquidations.parquet",
    ("ts", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type"),
)
_SIDES = {"Bid": 1.0, "Ask": -1.0}
_TRANSFER, _TRADE, _LIQUIDATED = range(3)  # the order within one time stamp


class Record(NamedTuple):
    """One record of an account: time in nanoseconds, what it is, and its figures.

    `name` is the coin of a trade or the leverage type of a liquidation; `amount` the USD of a
    transfer, the signed quantity of a trade or the notional of a liquidation; `price` that of a
    trade, or the account value at a liquidation.
    """

    time: int
    kind: int
    name: str
    amount: float
    price: float


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The accounts as account files have them, and what was found on the way."""

    history: AccountHistory
    report: dict[str, Any]


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Records by account, in order of time; of equal times transfers, then trades in the order
    of the file, then liquidations.

    Raises
    ------
    DataError
        A file or column is missing, or a trade has a side other than Bid and Ask.
    """
    records: dict[str, list[Record]] = defaultdict(list)
    for time, user, coin, side, price, size in _rows(folder, *_TRADES):
        if side not in _SIDES:
            raise DataError(f"{folder / _TRADES[0]}: side {side!r}; expected Bid or Ask")
        records[user].append(Record(time, _TRADE, coin, _SIDES[side] * size, price))
    for time, user, amount in _rows(folder, *_LEDGER):
        records[user].append(Record(time, _TRANSFER, "", amount, 0.0))
    for time, user, notional, value, leverage in _rows(folder, *_LIQUIDATIONS):
        records[user].append(Record(time, _LIQUIDATED, leverage, notional, value))
    for own in records.values():
        own.sort(key=lambda record: record[:2])  # stable: trades stay in the order of the file
    return dict(records)


def rebuild(folder: Path, out: Path, *, anchored: bool = True) -> Rebuilt:
    """Write the account files of the records in `folder`.

    Parameters
    ----------
    folder:
        Holds ``non_mm_trades``, ``non_mm_ledger_updates`` and ``liquidations.parquet``.
    out:
        Folder of the account files, made where it does not exist. A coin X is ``XUSDT-PERP``.
    anchored:
        Whether cash is put right at cross liquidations, see the top of this file.

    Raises
    ------
    DataError
        As `read_records`, or the files cannot be written.
    """
    records = read_records(folder)
    events: list[Event] = []
    states: dict[int, list[Account]] = defaultdict(list)
    checks: list[dict[str, Any]] = []
    for user in sorted(records):
        extra = unexplained_transfers(user, records[user]) if anchored else []
        own = sorted([*extra, *records[user]], key=lambda record: record[:2])
        for time, account in _walk(user, own, checks):
            states[time].append(account)
        events += [Event(r.time, user, UNEXPLAINED, r.amount) for r in extra]
        events += _events(user, records[user])
    snapshots = (AccountUpdates(time, Book.of(states[time])) for time in sorted(states))
    history = write_accounts(out, snapshots, events)
    return Rebuilt(history, _report(records, events, checks))


def unexplained_transfers(user: str, records: list[Record]) -> list[Record]:
    """Transfers that make the cash zero after each cross liquidation that leaves the account flat,
    each at the trade that opened the positions of that liquidation."""
    log, opened = AccountLog(user), 0
    found: list[Record] = []
    for i, record in enumerate(records):
        if log.flat and record.kind == _TRADE:
            opened = record.time
        _apply(log, record)
        newest = i + 1 == len(records) or records[i + 1].time > record.time
        if record.kind == _LIQUIDATED and record.name == "Cross" and log.flat and newest:
            found.append(Record(opened, _TRANSFER, UNEXPLAINED, -log.cash, 0.0))
            log.cash = 0.0
    return found


def _walk(
    user: str, records: list[Record], checks: list[dict[str, Any]]
) -> Iterator[tuple[int, Account]]:
    """The account after the last record of each time stamp. At a liquidation of one position,
    `checks` gets its recorded notional and value, and the rebuilt ones before its own trades."""
    log = AccountLog(user)
    before = log.account()
    for i, record in enumerate(records):
        if i and records[i - 1].time < record.time:
            before = log.account()
        _apply(log, record)
        if record.kind == _LIQUIDATED:
            checks.append(_check(before, record, flat=log.flat))
        if i + 1 == len(records) or records[i + 1].time > record.time:
            yield record.time, log.account()


def _apply(log: AccountLog, record: Record) -> None:
    if record.kind == _TRANSFER:
        log.transfer(record.amount)
    elif record.kind == _TRADE:
        log.trade(f"{record.name}USDT-PERP", record.amount, record.price)


def _check(before: Account, record: Record, *, flat: bool) -> dict[str, Any]:
    """A liquidation beside the account before its second; the rebuilt value of an account with
    one position is taken at the mark that the recorded notional implies, else it is None."""
    value: float | None = None
    if len(before.positions) == 1:
        (position,) = before.positions
        mark = record.amount / abs(position.quantity)
        value = before.cash + position.quantity * (mark - (position.entry_price or 0.0))
    return {
        "kind": record.name,
        "notional": record.amount,
        "value": record.price,
        "positions": len(before.positions),
        "rebuilt_notional": sum(abs(p.quantity) * (p.entry_price or 0.0) for p in before.positions),
        "rebuilt_value": value,
        "flat_after": flat,
    }


def _events(user: str, records: list[Record]) -> list[Event]:
    events = []
    for record in records:
        if record.kind == _TRANSFER:
            kind = DEPOSIT if record.amount > 0.0 else WITHDRAWAL
        elif record.kind == _LIQUIDATED:
            kind = LIQUIDATION if record.name == "Cross" else ISOLATED_LIQUIDATION
        else:
            continue
        events.append(Event(record.time, user, kind, record.amount))
    return events


def _report(
    records: dict[str, list[Record]], events: list[Event], checks: list[dict[str, Any]]
) -> dict[str, Any]:
    unexplained = [event.amount for event in events if event.kind == UNEXPLAINED]
    coins: dict[str, int] = defaultdict(int)
    for own in records.values():
        for record in own:
            if record.kind == _TRADE:
                coins[record.name] += 1
    return {
        "accounts": len(records),
        "trades": sum(coins.values()),
        "trades_by_coin": dict(sorted(coins.items(), key=lambda item: -item[1])),
        "liquidations": {
            kind: sum(event.kind == kind for event in events)
            for kind in (LIQUIDATION, ISOLATED_LIQUIDATION)
        },
        "accounts_without_transfers": sum(
            all(record.kind != _TRANSFER for record in own) for own in records.values()
        ),
        "anchored_liquidations": len(unexplained),
        "unexplained_over_10_usd": sum(abs(amount) > 10.0 for amount in unexplained),
        "unexplained_net_usd": sum(unexplained),
        "checks": checks,
    }


def _rows(folder: Path, name: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of a file in order of time, ts in nanoseconds."""
    try:
        table = pq.read_table(folder / name, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{folder / name} cannot be read with columns {', '.join(columns)}: {error}; give the "
            f"folder that holds {FOLDER} with --data"
        ) from error
    stamps = table["ts"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
    rest = (table[column].to_pylist() for column in columns[1:])
    return zip(stamps.to_pylist(), *rest, strict=True)
