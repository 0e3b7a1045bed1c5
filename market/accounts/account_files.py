"""Account files: positions, collateral and events of a venue's accounts over time.

A folder holds ``positions.parquet`` (ts, account_id, instrument, quantity[, entry_price]),
``collateral.parquet`` (ts, account_id, asset, amount) and, where there are any,
``events.parquet`` (ts, account_id, kind, amount). Other columns are ignored. Time stamps have any
unit; without a time zone they are UTC. Each file may be CSV instead (``positions.csv``), see
`market.accounts.csv_tables`; there ``ts`` may be missing where the caller gives a time.

The latest ts ≤ T of an account is its full snapshot, **in each file on its own**: the files come
from different systems of a venue, which write at different times, so a deposit at 10:05 must not
flatten the positions reported at 10:00. Within a file the snapshot is full: an instrument that the
latest ts does not name is not held. A row of quantity 0 therefore says "flat", and a flat account
still has its cash. An account known to neither file by T is absent from the book; an event of kind
``closed`` voids all snapshots up to and at its ts.

An amount of USD is the account's cash, for it settles in USD; every other asset is a collateral
balance, and the rule set says which of them count as cash, see
`margin.rules.ruleset.CollateralRules`.

Only the form is checked here. Whether an instrument can be priced is the margin engine's to say,
account by account.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.accounts.account_columns import numbers, prices, recode, sorted_union, strings, times
from market.accounts.account_tables import AccountTable, load_table
from market.accounts.book import SETTLEMENT_CURRENCY, Book
from market.core.arrays import Floats, Ints
from market.core.clock import format_time
from market.core.errors import DataError
from market.core.files import replace_file
from market.sources.base import AccountUpdates

CLOSED = "closed"
"""Kind of the event that ends an account."""

_REPEATS_SHOWN = 5

FOREVER = int(np.iinfo(np.int64).max)
"""End of a segment that no later snapshot ends."""


class Event(NamedTuple):
    """Something that happened to an account: time in nanoseconds, kind, amount (signed, USD)."""

    time: int
    account_id: str
    kind: str
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """K snapshots of one file with R rows, sorted by account, time and name.

    Attributes
    ----------
    account, time:
        Of each snapshot: index into the account ids, and nanoseconds; int64, shape (K,).
    row_start:
        The rows of snapshot k are ``row_start[k]:row_start[k + 1]``, int64, shape (K + 1,).
    names:
        Instruments or assets, sorted.
    name:
        Index into `names`, int64, shape (R,).
    amount:
        Signed quantity, or amount of collateral, shape (R,).
    entry_price:
        Shape (R,); NaN where there is none, and for collateral.
    """

    account: Ints
    time: Ints
    row_start: Ints
    names: tuple[str, ...]
    name: Ints
    amount: Floats
    entry_price: Floats


@dataclass(frozen=True, slots=True)
class Events:
    """E events, sorted by account, then time; of equal times in the order of the file.

    Attributes
    ----------
    account, time:
        Index into the account ids, and nanoseconds; int64, shape (E,).
    kinds:
        Kinds that occur, sorted.
    kind:
        Index into `kinds`, int64, shape (E,).
    amount:
        Signed, in USD, shape (E,).
    """

    account: Ints
    time: Ints
    kinds: tuple[str, ...]
    kind: Ints
    amount: Floats

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Segments:
    """Spans of time in which an account's book does not change, sorted by account, then time.

    Attributes
    ----------
    account:
        Index into the account ids, int64, shape (G,).
    begin, end:
        The span is begin ≤ t < end in nanoseconds, int64, shape (G,); `FOREVER` ends the last.
    positions, collateral:
        The snapshot of each file in force, int64, shape (G,); -1 where there is none.
    """

    account: Ints
    begin: Ints
    end: Ints
    positions: Ints
    collateral: Ints

    def __len__(self) -> int:
        return len(self.account)


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """All accounts of a folder over time.

    Attributes
    ----------
    account_ids:
        Sorted, length A.
    positions, collateral:
        The snapshots of the two files.
    events:
        What else happened.
    segments:
        The snapshots of both files joined.
    """

    account_ids: tuple[str, ...]
    positions: Holdings
    collateral: Holdings
    events: Events
    segments: Segments

    def book_at(self, time: int) -> Book:
        """All accounts as known at a time in nanoseconds, sorted by account id.

        Zero quantities and amounts are left out.
        """
        return self.book_of(
            np.flatnonzero((self.segments.begin <= time) & (time < self.segments.end))
        )

    def book_of(self, segments: Ints) -> Book:
        """The books of chosen segments in the order given, one account each, shape (n,)."""
        owner, leg = _rows(self.positions, self.segments.positions[segments])
        held = self.positions.amount[leg] != 0.0
        owner, leg = owner[held], leg[held]

        keeper, balance = _rows(self.collateral, self.segments.collateral[segments])
        amount = self.collateral.amount[balance]
        is_cash = np.isin(
            self.collateral.name[balance],
            [i for i, asset in enumerate(self.collateral.names) if asset == SETTLEMENT_CURRENCY],
        )
        cash = np.bincount(keeper[is_cash], weights=amount[is_cash], minlength=len(segments))
        kept = ~is_cash & (amount != 0.0)
        keeper, balance = keeper[kept], balance[kept]
        return Book(
            account_ids=tuple(self.account_ids[i] for i in self.segments.account[segments]),
            cash=np.asarray(cash, dtype=np.float64),
            leg_start=_offsets(owner, len(segments)),
            leg_instrument=tuple(self.positions.names[i] for i in self.positions.name[leg]),
            leg_quantity=self.positions.amount[leg],
            leg_entry_price=self.positions.entry_price[leg],
            balance_start=_offsets(keeper, len(segments)),
            balance_asset=tuple(self.collateral.names[i] for i in self.collateral.name[balance]),
            balance_amount=self.collateral.amount[balance],
        )


def read_accounts(folder: Path, now: int | None = None) -> AccountHistory:
    """Read the account files of a folder.

    Parameters
    ----------
    folder:
        Of Parquet or CSV files.
    now:
        Time in nanoseconds of the rows of a CSV file without the column ``ts``.

    Raises
    ------
    DataError
        The folder or a required file is missing, unreadable or too long, or exists in both forms;
        a column is missing or of the wrong type; a time or id is missing, a number is missing or
        not finite, an entry price is not positive; two rows of a file tell of the same ts, account
        and instrument or asset. The message names the file and the first row at fault: its number
        from 0, or its line in a CSV file.
    """
    if not folder.is_dir():
        raise DataError(
            f"account folder {folder} does not exist; give an existing one in [accounts] source "
            "or --accounts"
        )
    events = load_table(folder, "events", now)
    return _history(
        (
            _load(folder, "positions", now),
            _load(folder, "collateral", now),
            events or AccountTable(folder / "events.parquet", event_table(())),
        ),
    )


def read_account_tables(
    positions: pa.Table, collateral: pa.Table, events: pa.Table | None = None
) -> AccountHistory:
    """Read tables with the columns of the account files.

    Raises
    ------
    DataError
        As `read_accounts`; messages call the tables ``positions``, ``collateral`` and ``events``.
    """
    return _history(
        (
            AccountTable("positions", positions),
            AccountTable("collateral", collateral),
            AccountTable("events", event_table(()) if events is None else events),
        )
    )


def write_accounts(
    folder: Path, snapshots: Iterable[AccountUpdates], events: Sequence[Event] = ()
) -> AccountHistory:
    """Write account files and return them as `read_accounts` would.

    A book is the full snapshot, at its time, of the accounts it names and of no other. Cash is
    written as USD. An account that has become flat is written as quantity 0 of the instrument it
    held last. Nothing is written unless it can be read back.

    Parameters
    ----------
    folder:
        Made where it does not exist; its Parquet account files are replaced.
    snapshots:
        By time, strictly rising.
    events:
        In any order.

    Raises
    ------
    DataError
        The times do not rise, the content would break the rules of `read_accounts`, or the folder
        has a CSV account file, with which the new ones would be two answers to one question.
    """
    files = _snapshot_files(folder, snapshots, events)
    for file in files:
        text = Path(file.path).with_suffix(".csv")
        if text.exists():
            raise DataError(
                f"{text} exists, and {Path(file.path).name} beside it could not be read; nothing "
                "was written: give another folder, or move the CSV file away"
            )
    history = _history(files)
    for file in files:
        sink = pa.BufferOutputStream()
        pq.write_table(file.table, sink)
        replace_file(Path(file.path), sink.getvalue().to_pybytes())
    return history


def _snapshot_files(
    folder: Path, snapshots: Iterable[AccountUpdates], events: Sequence[Event]
) -> tuple[AccountTable, AccountTable, AccountTable]:
    positions, collateral = snapshot_tables(snapshots)
    return (
        AccountTable(folder / "positions.parquet", positions),
        AccountTable(folder / "collateral.parquet", collateral),
        AccountTable(folder / "events.parquet", event_table(events)),
    )


def make_history(
    snapshots: Iterable[AccountUpdates], events: Sequence[Event] = ()
) -> AccountHistory:
    """What `write_accounts` would return, without files; parameters and errors are the same."""
    return _history(_snapshot_files(Path("in memory"), snapshots, events))


def snapshot_tables(snapshots: Iterable[AccountUpdates]) -> tuple[pa.Table, pa.Table]:
    """Positions and collateral as `write_accounts` writes them; raises as it does for the times."""
    legs: list[tuple[int, str, str, float, float]] = []
    balances: list[tuple[int, str, str, float]] = []
    last_held: dict[str, str] = {}
    before: int | None = None
    for snapshot in snapshots:
        time, book = snapshot.ts, snapshot.book
        if before is not None and time <= before:
            raise DataError(
                f"snapshot at {format_time(time)} follows one at {format_time(before)}; "
                "give the books in rising order of time, one book a time"
            )
        before = time
        for i, account in enumerate(book.account_ids):
            balances.append((time, account, SETTLEMENT_CURRENCY, float(book.cash[i])))
            balances.extend(
                (time, account, book.balance_asset[b], float(book.balance_amount[b]))
                for b in range(book.balance_start[i], book.balance_start[i + 1])
            )
            held = range(book.leg_start[i], book.leg_start[i + 1])
            legs.extend(
                (
                    time,
                    account,
                    book.leg_instrument[leg],
                    float(book.leg_quantity[leg]),
                    float(book.leg_entry_price[leg]),
                )
                for leg in held
            )
            if held:
                last_held[account] = book.leg_instrument[held[0]]
            elif account in last_held:
                legs.append((time, account, last_held[account], 0.0, np.nan))
    return (
        _table(legs, instrument=pa.string(), quantity=pa.float64(), entry_price=pa.float64()),
        _table(balances, asset=pa.string(), amount=pa.float64()),
    )


def event_table(events: Sequence[Event]) -> pa.Table:
    """Events as `write_accounts` writes them."""
    return _table(events, kind=pa.string(), amount=pa.float64())


def _table(rows: Sequence[tuple[int | str | float, ...]], **columns: pa.DataType) -> pa.Table:
    types = {"ts": pa.timestamp("ns", tz="UTC"), "account_id": pa.string(), **columns}
    values = zip(*rows, strict=True) if rows else ((),) * len(types)
    return pa.table(
        {
            name: pa.array(column, kind, from_pandas=True)
            for (name, kind), column in zip(types.items(), values, strict=True)
        }
    )


def _load(folder: Path, name: str, now: int | None) -> AccountTable:
    found = load_table(folder, name, now)
    if found is None:
        raise DataError(
            f"account file {folder / name}.parquet does not exist, nor does {name}.csv; an account "
            "folder needs one of them"
        )
    return found


def _history(files: tuple[AccountTable, AccountTable, AccountTable]) -> AccountHistory:
    positions, collateral, events = files
    owners = [strings(file, "account_id") for file in files]
    everyone = sorted_union([names for names, _ in owners])
    accounts = [recode(names, codes, everyone) for names, codes in owners]
    held = _holdings(positions, accounts[0], "instrument", "quantity")
    kept = _holdings(collateral, accounts[1], "asset", "amount")
    if not len(held.time) + len(kept.time):
        raise DataError(
            f"{positions.path} and {collateral.path} hold no rows; nothing can be scored"
        )
    happened = _events(events, accounts[2])
    return AccountHistory(
        tuple(everyone.to_pylist()), held, kept, happened, _segments(held, kept, happened)
    )


def _events(file: AccountTable, account: Ints) -> Events:
    time = times(file)
    found, codes = strings(file, "kind")
    kinds = sorted_union([found])
    kind, amount = recode(found, codes, kinds), numbers(file, "amount")
    order = np.lexsort((time, account))
    return Events(account[order], time[order], tuple(kinds.to_pylist()), kind[order], amount[order])


def _holdings(file: AccountTable, account: Ints, name_column: str, amount_column: str) -> Holdings:
    time = times(file)
    found, codes = strings(file, name_column)
    known = sorted_union([found])
    names, name = tuple(known.to_pylist()), recode(found, codes, known)
    amount = numbers(file, amount_column)
    priced = amount_column == "quantity" and "entry_price" in file.table.column_names
    entry_price = prices(file) if priced else np.full(len(time), np.nan)

    order = np.lexsort((name, time, account))
    same_snapshot = (np.diff(account[order]) == 0) & (np.diff(time[order]) == 0)
    repeated = order[1:][same_snapshot & (np.diff(name[order]) == 0)]
    if len(repeated):
        row, *others = np.sort(repeated).tolist()
        shown = [file.place(other) for other in others[:_REPEATS_SHOWN]]
        listed = ", ".join(shown + ["..."] * (len(others) > _REPEATS_SHOWN))
        more = f" ({len(others):,} more such rows: {listed})" if others else ""
        raise DataError(
            f"{file.path}: {file.place(row)} repeats {name_column} {names[name[row]]!r} of an "
            f"earlier row with the same account_id and ts {format_time(int(time[row]))}{more}; a "
            f"snapshot names each {name_column} once: add the rows up, or keep the right one"
        )
    first = np.flatnonzero(np.r_[True, ~same_snapshot]) if len(order) else order
    return Holdings(
        account=account[order][first],
        time=time[order][first],
        row_start=np.r_[first, len(order)].astype(np.int64),
        names=names,
        name=name[order],
        amount=amount[order],
        entry_price=entry_price[order],
    )


def _segments(positions: Holdings, collateral: Holdings, events: Events) -> Segments:
    """Join the two files: whenever either changes, a segment begins; a closing ends it."""
    closing = np.array([kind == CLOSED for kind in events.kinds], dtype=bool)[events.kind]
    parts = (
        (positions.account, positions.time),
        (collateral.account, collateral.time),
        (events.account[closing], events.time[closing]),
    )
    account = np.concatenate([owner for owner, _ in parts])
    time = np.concatenate([moment for _, moment in parts])
    source = np.repeat(np.arange(3), [len(owner) for owner, _ in parts])
    index = np.concatenate([np.arange(len(owner)) for owner, _ in parts])
    order = np.lexsort((source, time, account))
    account, time, source, index = account[order], time[order], source[order], index[order]

    voided = np.full(len(order), -1, dtype=np.int64)  # newest closing so far: its row
    voided[source == 2] = np.flatnonzero(source == 2)
    voided = np.maximum.accumulate(voided)
    is_void = (voided >= 0) & (account[voided] == account)
    void_until = np.where(is_void, time[voided], np.iinfo(np.int64).min)

    def latest(file: int, holdings: Holdings) -> Ints:
        snapshot = np.maximum.accumulate(np.where(source == file, index, -1))
        if not len(holdings.time):
            return snapshot
        in_force = (
            (snapshot >= 0)
            & (holdings.account[snapshot] == account)
            & (holdings.time[snapshot] > void_until)
        )
        return np.where(in_force, snapshot, -1)

    held, kept = latest(0, positions), latest(1, collateral)
    next_account = np.r_[account[1:], -1]
    next_time = np.r_[time[1:], FOREVER]
    end = np.where(next_account == account, next_time, FOREVER)
    lasts = (end > time) & ((held >= 0) | (kept >= 0))
    return Segments(account[lasts], time[lasts], end[lasts], held[lasts], kept[lasts])


def _rows(holdings: Holdings, snapshots: Ints) -> tuple[Ints, Ints]:
    """Rows of the snapshots, and which of the snapshots each belongs to; -1 has no rows."""
    known = np.flatnonzero(snapshots >= 0)
    first = holdings.row_start[snapshots[known]]
    counts = holdings.row_start[snapshots[known] + 1] - first
    shift = np.repeat(first - (np.cumsum(counts) - counts), counts)
    return np.repeat(known, counts), np.arange(len(shift), dtype=np.int64) + shift


def _offsets(owner: Ints, count: int) -> Ints:
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=count), out=offsets[1:])
    return offsets
