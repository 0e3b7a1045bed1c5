"""The live book in the ledger: one row an account, and one chain of all updates.

An update, its row and its record are committed together. The row holds the account after its
newest update, so that a start reads no history; the record holds the update itself, and the
SHA-256 of every row that it wrote, so that rows are covered by the chain
(docs/adr/0062-one-chain-of-account-updates.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select, text

from ledger.chain import extend_in_rounds, to_record
from ledger.following import ChainHead
from ledger.records import EncodedEntry, Entry
from ledger.schema import accounts, database_errors, in_batches, lock, records
from ledger.store import Ledger
from market.core.clock import parse_time
from market.core.errors import AlteredError
from monitoring.book.account_rows import (
    CHAIN,
    AccountRow,
    changed_rows,
    read_rows,
    row_problems,
    write_rows,
)
from monitoring.book.book_account import BookAccount, apply_update, update_sha256
from monitoring.book.messages import AccountUpdateIn, UpdateResult

KIND = "account_updates"
"""Kind of the records of updates."""

MOST_IN_RECORD = 1_000
"""Most updates in one record."""

_HEAD = (
    select(records.c.seq, records.c.hash)
    .where(records.c.chain == CHAIN)
    .order_by(records.c.seq.desc())
    .limit(1)
)
_RECORDS = select(records).where(records.c.chain == CHAIN).order_by(records.c.seq)
_NEXT_PLACE = select(func.coalesce(func.max(accounts.c.place) + 1, 0))


@dataclass(frozen=True, slots=True)
class BookChanges:
    """Accounts that changed, and the record of the chain that they contain.

    Attributes
    ----------
    accounts:
        The changed accounts by id, in the order in which they first appeared.
    head:
        The newest record.
    """

    accounts: Mapping[str, BookAccount]
    head: ChainHead


@dataclass(frozen=True, slots=True)
class _Timed:
    """An update, when it held, and the SHA-256 of its content."""

    update: AccountUpdateIn
    as_of: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """What updates make of some rows: all that can be computed before it is written.

    Attributes
    ----------
    results:
        One for each update.
    entries:
        The records to append.
    rows:
        The changed rows, each with its packed content and the number of its entry.
    fresh:
        Ids of accounts that had no row, in the order of their first update.
    """

    results: list[UpdateResult]
    entries: list[EncodedEntry]
    rows: list[tuple[AccountRow, bytes, int]]
    fresh: list[str]


class AccountStore:
    """The accounts of a ledger. Safe to use from several threads and processes.

    Parameters
    ----------
    ledger:
        Where they are.

    Raises
    ------
    LedgerError
        In every method: the database failed or refused.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def apply(
        self, updates: Sequence[AccountUpdateIn], now: int, requester: str
    ) -> list[UpdateResult]:
        """Apply updates in their order; what counts is on disk when this returns.

        Updates of one account wait for each other, in any number of processes. The outcome is
        computed before the transaction, and once more inside it where another one changed one of
        the accounts meanwhile.

        Parameters
        ----------
        updates:
            The updates.
        now:
            When updates without a time held, nanoseconds.
        requester:
            Whose updates they are, as the records name it.

        Raises
        ------
        DataError
            A time cannot be read; nothing was applied.
        AlteredError
            The row of one of the accounts was altered; nothing was applied.
        """
        timed = [
            _Timed(
                update,
                now if update.ts is None else parse_time(update.ts),
                update_sha256(update),
            )
            for update in updates
        ]
        names = {update.account_id for update in updates}
        with database_errors("read"), self._reading() as connection:
            seen = _head(connection)
            rows = read_rows(connection, names)
        draft = _draft(timed, rows, requester)
        if not draft.entries:
            return draft.results  # as the accounts stood when they were read
        with self._ledger.transaction() as connection:
            lock(connection, f"chain:{CHAIN}")
            if not names.isdisjoint(_changed_after(connection, seen)):
                draft = _draft(timed, read_rows(connection, names), requester)
            if draft.entries:
                _write(connection, draft)
        return draft.results

    def head(self) -> ChainHead:
        """The newest record of the chain."""
        with database_errors("read"), self._ledger.engine.connect() as connection:
            return _head(connection)

    def changes(self, after: ChainHead) -> BookChanges:
        """The accounts that changed after a record, as they stand now.

        Raises
        ------
        AlteredError
            The chain does not contain `after` any more, or a row is not what its record says.
        """
        with database_errors("read"), self._reading() as connection:
            head = _head(connection)
            if head == after:
                return BookChanges({}, head)
            _check_continues(connection, after)
            rows = list(changed_rows(connection, after.seq))
        return BookChanges({row.account.account.account_id: row.account for row in rows}, head)

    def find(self, account_id: str) -> BookAccount | None:
        """One account as it stands now; None where there is none."""
        with database_errors("read"), self._reading() as connection:
            row = read_rows(connection, [account_id]).get(account_id)
        return None if row is None else row.account

    def known(self, account_ids: Iterable[str]) -> set[str]:
        """Which of some accounts there are."""
        with database_errors("read"), self._reading() as connection:
            return {
                row.account_id
                for batch in in_batches(account_ids)
                for row in connection.execute(
                    select(accounts.c.account_id).where(accounts.c.account_id.in_(batch))
                )
            }

    def updates(self, until: ChainHead | None = None) -> Iterator[tuple[AccountUpdateIn, int]]:
        """All updates that were applied, gaps included, in their order, and when each one held.

        Raises
        ------
        AlteredError
            A record does not match its hash.
        """
        last = None if until is None else until.seq
        after = 0
        while True:
            query = _RECORDS.where(records.c.seq > after).limit(100)
            if last is not None:
                query = query.where(records.c.seq <= last)
            with database_errors("read"), self._reading() as connection:
                page = [to_record(row) for row in connection.execute(query)]
            if not page:
                return
            for record in page:
                for written in record.payload["updates"]:
                    yield recorded_update(written), written["as_of"]
            after = page[-1].seq

    def problems(self) -> list[str]:
        """Rows that are not what the chain says: altered, deleted or inserted ones.

        An alteration is also found where an update was applied to the altered row since. The
        records of the chain themselves are not checked here, see `ledger.verify`.
        """
        with database_errors("read"), self._reading() as connection:
            streamed = connection.execute(_RECORDS, execution_options={"yield_per": 100})
            return list(row_problems(connection, map(to_record, streamed)))

    def _reading(self) -> Any:
        """A connection whose statements see one state of the database."""
        engine = self._ledger.engine
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        return engine.connect()


def recorded_update(written: Mapping[str, Any]) -> AccountUpdateIn:
    """The update of an entry of a record."""
    names = AccountUpdateIn.__struct_fields__
    fields = {name: value for name, value in written.items() if name in names}
    return msgspec.convert(fields, AccountUpdateIn)


def _draft(timed: Sequence[_Timed], rows: Mapping[str, AccountRow], requester: str) -> _Draft:
    """What updates make of rows as they stand."""
    known = dict(rows)
    results: list[UpdateResult] = []
    written: list[dict[str, Any]] = []
    entry_of: dict[str, int] = {}
    for one in timed:
        name = one.update.account_id
        before = known.get(name)
        account = None if before is None else before.account
        outcome = apply_update(account, one.update, one.as_of, one.sha256)
        results.append(outcome.result)
        if outcome.after is None:
            continue
        row = known[name] = AccountRow.of(outcome.after, -1 if before is None else before.place)
        entry_of[name] = len(written) // MOST_IN_RECORD
        written.append(
            {
                **msgspec.to_builtins(one.update),
                "status": outcome.result.status,
                "as_of": outcome.after.as_of,
                "state_sha256": row.sha256,
            }
            | ({} if before is None else {"previous_sha256": before.sha256})
        )
    entries = [
        EncodedEntry.of(
            Entry(KIND, {"requester": requester, "updates": written[i : i + MOST_IN_RECORD]}),
            text_keys=True,
        )
        for i in range(0, len(written), MOST_IN_RECORD)
    ]
    changed = [(known[name], known[name].packed(), entry) for name, entry in entry_of.items()]
    return _Draft(results, entries, changed, [name for name in entry_of if name not in rows])


def _write(connection: Connection, draft: _Draft) -> None:
    """Append the records of a draft and write its rows, under the lock of the chain."""
    place = int(connection.execute(_NEXT_PLACE).scalar_one())
    places = {name: place + i for i, name in enumerate(draft.fresh)}
    recorded = extend_in_rounds(connection, CHAIN, [draft.entries])
    values = []
    for row, packed, entry in draft.rows:
        place = places.get(row.account.account.account_id, row.place)
        values.append(row.values(recorded[entry]["seq"], place, packed))
    write_rows(connection, values)
    if connection.dialect.name == "postgresql":
        notify = text("SELECT pg_notify(:channel, '')")
        connection.execute(notify, {"channel": f"margincast_{CHAIN}"})


def _changed_after(connection: Connection, head: ChainHead) -> set[str]:
    """Accounts whose rows were written after a record."""
    query = select(accounts.c.account_id).where(accounts.c.record_seq > head.seq)
    return set(connection.execute(query).scalars())


def _head(connection: Connection) -> ChainHead:
    row = connection.execute(_HEAD).one_or_none()
    return ChainHead() if row is None else ChainHead(row.seq, bytes(row.hash).hex())


def _check_continues(connection: Connection, after: ChainHead) -> None:
    """Refuse a chain that does not contain a record that was read from it."""
    if not after.seq:
        return
    query = select(records.c.hash).where(records.c.chain == CHAIN, records.c.seq == after.seq)
    found = connection.execute(query).scalar_one_or_none()
    if found is None or bytes(found).hex() != after.hash:
        raise AlteredError(
            f"chain {CHAIN!r} does not continue from record {after.seq}, held here: it was cut, "
            "altered or restored from an older copy; verify the ledger and start again"
        )
