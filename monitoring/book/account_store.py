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
from sqlalchemy import Connection, Row, bindparam, select, text

from ledger.canonical import canonical_bytes, sha256_hex
from ledger.chain import extend, to_record
from ledger.following import ChainHead
from ledger.packing import pack, unpack
from ledger.records import Entry
from ledger.schema import accounts, database_errors, in_batches, lock, records, segments
from ledger.store import Ledger
from market.core.clock import parse_time
from market.core.errors import AlteredError
from market.sources.http import AccountMessage, account_message, account_update
from monitoring.book.book_account import Applied, BookAccount, apply_update
from monitoring.book.messages import AccountUpdateIn, UpdateResult

CHAIN = "accounts"
"""Chain of the records of updates."""

KIND = "account_updates"
"""Kind of these records."""

MOST_IN_RECORD = 1_000
"""Most updates in one record."""

_COLUMNS = tuple(column.name for column in accounts.columns)
_UPSERT = (
    f"INSERT INTO accounts ({', '.join(_COLUMNS)}) VALUES ({{marks}}) "  # noqa: S608  constants
    "ON CONFLICT (account_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
)
_HEAD = (
    select(records.c.seq, records.c.hash)
    .where(records.c.chain == CHAIN)
    .order_by(records.c.seq.desc())
    .limit(1)
)
_CHANGED = (
    select(accounts)
    .where(accounts.c.record_seq > bindparam("after"))
    .order_by(accounts.c.record_seq, accounts.c.account_id)
)
_RECORDS = select(records).where(records.c.chain == CHAIN)
_ARCHIVED = select(segments.c.chain).where(segments.c.chain == CHAIN)


class _Stored(msgspec.Struct, frozen=True):
    """The content of a row, as its canonical JSON has it."""

    account: AccountMessage
    sequence: int
    as_of: int
    expected: int | None
    update_sha256: str


@dataclass(frozen=True, slots=True)
class BookChanges:
    """Accounts that changed, and the record of the chain that they contain.

    Attributes
    ----------
    accounts:
        The changed accounts by id, in the order of their newest records.
    head:
        The newest record.
    """

    accounts: Mapping[str, BookAccount]
    head: ChainHead


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

        Updates of one account wait for each other, in any number of processes.

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
        """
        times = [now if update.ts is None else parse_time(update.ts) for update in updates]
        with self._ledger.transaction() as connection:
            lock(connection, f"chain:{CHAIN}")
            known = _read(connection, [update.account_id for update in updates])
            applied: list[Applied] = []
            changed: list[tuple[AccountUpdateIn, Applied]] = []
            for update, as_of in zip(updates, times, strict=True):
                outcome = apply_update(known.get(update.account_id), update, as_of)
                applied.append(outcome)
                if outcome.after is not None:
                    known[update.account_id] = outcome.after
                    changed.append((update, outcome))
            self._write(connection, changed, requester)
        return [outcome.result for outcome in applied]

    def _write(
        self,
        connection: Connection,
        changed: Sequence[tuple[AccountUpdateIn, Applied]],
        requester: str,
    ) -> None:
        if not changed:
            return
        entries: list[Entry] = []
        rows: dict[str, tuple[int, BookAccount, bytes]] = {}
        for start in range(0, len(changed), MOST_IN_RECORD):
            written: list[dict[str, Any]] = []
            for update, outcome in changed[start : start + MOST_IN_RECORD]:
                after = outcome.after
                assert after is not None  # noqa: S101  of `changed`
                content = _content(after)
                rows[update.account_id] = len(entries), after, content
                written.append(
                    {
                        **msgspec.to_builtins(update),
                        "status": outcome.result.status,
                        "as_of": after.as_of,
                        "state_sha256": sha256_hex(content),
                    }
                )
            payload = {"requester": requester, "updates": written}
            entries.append(Entry(kind=KIND, payload=payload))
        recorded = extend(connection, CHAIN, entries)
        marks = "?" if connection.dialect.name == "sqlite" else "%s"
        connection.exec_driver_sql(
            _UPSERT.format(marks=", ".join([marks] * len(_COLUMNS))),
            [
                (
                    account_id,
                    after.sequence,
                    after.as_of,
                    after.expected,
                    pack(content),
                    bytes.fromhex(after.update_sha256),
                    recorded[place].seq,
                )
                for account_id, (place, after, content) in rows.items()
            ],
        )
        if connection.dialect.name == "postgresql":
            connection.execute(
                text("SELECT pg_notify(:channel, '')"), {"channel": f"margincast_{CHAIN}"}
            )

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
            _check_continues(connection, after, head)
            rows = connection.execute(_CHANGED, {"after": after.seq}).all()
            expected = _expected_states(connection, after, {row.record_seq for row in rows})
        return BookChanges({row.account_id: _account(row, expected) for row in rows}, head)

    def find(self, account_id: str) -> BookAccount | None:
        """One account as it stands now; None where there is none."""
        with database_errors("read"), self._reading() as connection:
            return _read(connection, [account_id]).get(account_id)

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
            query = _RECORDS.where(records.c.seq > after).order_by(records.c.seq).limit(100)
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

        The records of the chain themselves are not checked here, see `ledger.verify`.
        """
        covered: dict[str, str] = {}
        with database_errors("read"), self._reading() as connection:
            for row in connection.execute(_RECORDS.order_by(records.c.seq)):
                for written in to_record(row).payload["updates"]:
                    covered[written["account_id"]] = written["state_sha256"]
            found: list[str] = []
            archived = connection.execute(_ARCHIVED).first() is not None
            for row in connection.execute(select(accounts).order_by(accounts.c.account_id)):
                state = covered.pop(row.account_id, None)
                if state is None and archived:
                    continue
                name = f"account {row.account_id!r} of the live book"
                try:
                    stored = sha256_hex(unpack(row.state))
                except AlteredError as error:
                    found.append(f"{name}: {error}")
                    continue
                if state is None:
                    found.append(f"{name} is in no record of chain {CHAIN!r}: it was inserted")
                elif stored != state or _differs(row):
                    found.append(f"{name} is not what chain {CHAIN!r} says: it was altered")
        found += [
            f"account {name!r} of the live book is in chain {CHAIN!r} and has no row: it was "
            "deleted"
            for name in covered
        ]
        return found

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


def _content(account: BookAccount) -> bytes:
    """The canonical JSON of a row."""
    return canonical_bytes(
        {
            "account": msgspec.to_builtins(account_message(account.account)),
            "sequence": account.sequence,
            "as_of": account.as_of,
            "expected": account.expected,
            "update_sha256": account.update_sha256,
        }
    )


_DECODER = msgspec.json.Decoder(_Stored)


def _differs(row: Row[Any]) -> bool:
    """Whether a column of a row is not what its state says."""
    stored = _DECODER.decode(unpack(row.state))
    columns = (row.account_id, row.sequence, row.as_of, row.out_of_sync, row.update_sha256.hex())
    return columns != (
        stored.account.account_id,
        stored.sequence,
        stored.as_of,
        stored.expected,
        stored.update_sha256,
    )


def _account(row: Row[Any], expected: Mapping[tuple[int, str], str] | None = None) -> BookAccount:
    """The account of a row, checked against the record that covers it."""
    name = f"account {row.account_id!r} of the live book"
    try:
        content = unpack(row.state)
        stored = _DECODER.decode(content)
    except (AlteredError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlteredError(
            f"{name}: {error}; restore a copy that `ledger verify` accepts"
        ) from None
    if expected is not None:
        covered = expected.get((row.record_seq, row.account_id))
        if covered is not None and (covered != sha256_hex(content) or _differs(row)):
            raise AlteredError(
                f"{name} is not what record {row.record_seq} of chain {CHAIN!r} says: the row was "
                "altered; restore a copy that was not"
            )
    return BookAccount(
        account_update(stored.account, stored.as_of).account,
        stored.sequence,
        stored.as_of,
        stored.expected,
        stored.update_sha256,
    )


def _read(connection: Connection, account_ids: Iterable[str]) -> dict[str, BookAccount]:
    found: dict[str, BookAccount] = {}
    for batch in in_batches(account_ids):
        query = select(accounts).where(accounts.c.account_id.in_(batch))
        found |= {row.account_id: _account(row) for row in connection.execute(query)}
    return found


def _head(connection: Connection) -> ChainHead:
    row = connection.execute(_HEAD).one_or_none()
    return ChainHead() if row is None else ChainHead(row.seq, row.hash.hex())


def _check_continues(connection: Connection, after: ChainHead, head: ChainHead) -> None:
    if not after.seq:
        return
    query = select(records.c.hash).where(records.c.chain == CHAIN, records.c.seq == after.seq)
    found = connection.execute(query).scalar_one_or_none()
    if head.seq < after.seq or (found is not None and found.hex() != after.hash):
        raise AlteredError(
            f"chain {CHAIN!r} does not continue from record {after.seq}, held here: it was cut, "
            "altered or restored from an older copy; verify the ledger and start again"
        )


def _expected_states(
    connection: Connection, after: ChainHead, seqs: set[int]
) -> dict[tuple[int, str], str]:
    """SHA-256 of the row that each record wrote for an account, by record and account.

    Records that were moved to an archive are not looked for.
    """
    states: dict[tuple[int, str], str] = {}
    query = _RECORDS.where(records.c.seq > after.seq).order_by(records.c.seq)
    for row in connection.execute(query):
        if row.seq in seqs:
            record = to_record(row)
            for written in record.payload["updates"]:
                states[record.seq, written["account_id"]] = written["state_sha256"]
    return states
