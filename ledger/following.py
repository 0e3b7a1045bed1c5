"""A chain that several processes append to in one order, and that each of them follows.

Each process keeps the head that its own state contains. It appends by compare-and-swap: the entry
is written only if the chain still ends at that head, which the write transaction checks. Else it
reads what the others appended, applies that first, and tries again. So all processes apply the
same records in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text

from ledger.chain import extend, extend_in_rounds, to_record
from ledger.idempotency import IdempotentAnswer, entry_of, find, save
from ledger.records import FIRST_PREVIOUS_HASH, Entry, Record
from ledger.schema import database_errors, lock, records
from ledger.store import Ledger
from market.core.errors import AlteredError, LedgerError

POLL_SECONDS = 0.1
"""Seconds between two reads of the head of a followed chain in SQLite."""

LISTEN_SECONDS = 0.5
"""A follower in PostgreSQL is notified; it looks at the head no later than after this, as a
notification may be lost with its connection."""

_PAGE = 200

_HEAD = (
    select(records.c.seq, records.c.hash)
    .where(records.c.chain == bindparam("name"))
    .order_by(records.c.seq.desc())
    .limit(1)
)
_AT = select(records.c.seq, records.c.hash).where(
    records.c.chain == bindparam("name"), records.c.seq == bindparam("seq")
)
_AFTER = (
    select(records)
    .where(records.c.chain == bindparam("name"), records.c.seq > bindparam("after"))
    .order_by(records.c.seq)
    .limit(_PAGE)
)
_LAST = (
    select(records)
    .where(
        records.c.chain == bindparam("name"),
        records.c.kind == bindparam("of_kind"),
        records.c.seq <= bindparam("until"),
    )
    # By the key alone: a chain records in the order of its numbers, and a database that has to sort
    # by another column reads every payload of the chain first.
    .order_by(records.c.seq.desc())
    .limit(1)
)


class ChainMovedError(LedgerError):
    """Another process appended to the chain first; nothing was recorded."""


class AlreadyAnsweredError(LedgerError):
    """A request of this idempotency key was answered before; nothing was recorded.

    Parameters
    ----------
    answer:
        What was answered.
    """

    def __init__(self, answer: IdempotentAnswer) -> None:
        super().__init__(f"Idempotency-Key {answer.key!r} was answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest record of a chain that a state contains; before any record seq is 0."""

    seq: int = 0
    hash: str = FIRST_PREVIOUS_HASH

    @classmethod
    def of(cls, record: Record) -> ChainHead:
        """The head right after a record."""
        return cls(record.seq, record.hash)


class SharedChain:
    """A chain that is appended to by compare-and-swap on its head.

    Parameters
    ----------
    ledger:
        Where it is; its own chain does not matter.
    name:
        Name of the chain.
    kinds:
        Kinds of its records. Records of these kinds in other chains, written before there was
        this one, stay before its first record in the order of recording.

    Raises
    ------
    LedgerError
        In every method: the database failed or refused.
    """

    def __init__(self, ledger: Ledger, name: str, kinds: Sequence[str] = ()) -> None:
        self.name = name
        self._ledger, self._kinds = ledger, tuple(kinds)

    def head(self) -> ChainHead:
        """The newest record now."""
        with database_errors("read"), self._ledger.engine.connect() as connection:
            return self._head(connection)

    def append(
        self, head: ChainHead, entries: Sequence[Entry], answer: IdempotentAnswer | None = None
    ) -> list[Record]:
        """Append entries if the chain still ends at `head`, and wake those that follow.

        Parameters
        ----------
        head:
            Where the chain has to end.
        entries:
            What to append; with an answer there may be none.
        answer:
            What answers the request of the entries under its key: kept in the same transaction,
            and covered by a record in the chain of the ledger.

        Returns
        -------
        list of Record
            One for each entry, committed and on disk.

        Raises
        ------
        ChainMovedError
            The chain ends elsewhere; nothing was recorded.
        AlreadyAnsweredError
            There is an answer under the key.
        UnrecordableError
            As in `Ledger.append`; nothing was recorded.
        """
        with self._ledger.transaction() as connection:
            lock(connection, f"chain:{self.name}")
            if answer is not None:
                for known in find(connection, [answer.request]).values():
                    raise AlreadyAnsweredError(known)
            now = self._head(connection)
            if now != head:
                raise ChainMovedError(
                    f"chain {self.name!r} ends at record {now.seq} and not at {head.seq}: apply "
                    "the records between and append again"
                )
            appended = extend(
                connection,
                self.name,
                entries,
                0 if head.seq else self._newest_elsewhere(connection),
            )
            if answer is not None:
                covering = [entry_of(answer)]
                rows = extend_in_rounds(connection, self._ledger.chain, [covering])
                save(connection, [answer], rows)
            if appended and connection.dialect.name == "postgresql":
                notify = text("SELECT pg_notify(:channel, '')")
                connection.execute(notify, {"channel": self._channel})
        return appended

    def after(self, head: ChainHead) -> Iterator[Record]:
        """The records after `head` in their order, read page by page.

        Raises
        ------
        AlteredError
            The chain does not continue from `head`: it was cut, altered or restored from a copy.
        """
        now = self.head()
        while now != head:
            values = {"name": self.name, "after": head.seq}
            with database_errors("read"), self._ledger.engine.connect() as connection:
                page = [to_record(row) for row in connection.execute(_AFTER, values)]
            if not page:
                raise self._broken(head)
            for record in page:
                if record.seq != head.seq + 1 or record.previous_hash != head.hash:
                    raise self._broken(head)
                head = ChainHead.of(record)
                yield record
            now = head if len(page) < _PAGE else self.head()

    def last(self, kind: str, until: ChainHead) -> Record | None:
        """The newest record of a kind up to `until`; None where there is none."""
        values = {"name": self.name, "of_kind": kind, "until": until.seq}
        with database_errors("read"), self._ledger.engine.connect() as connection:
            row = connection.execute(_LAST, values).one_or_none()
            return None if row is None else to_record(row)

    def before(self, seq: int) -> ChainHead:
        """Where the chain ended before record `seq`.

        Raises
        ------
        AlteredError
            There is no such record before it.
        """
        if seq <= 1:
            return ChainHead()
        with database_errors("read"), self._ledger.engine.connect() as connection:
            row = connection.execute(_AT, {"name": self.name, "seq": seq - 1}).one_or_none()
        if row is None:
            raise self._broken(ChainHead(seq - 1))
        return ChainHead(row.seq, row.hash.hex())

    @contextmanager
    def watch(self) -> Iterator[ChainWatch]:
        """Wait for changes of the chain: see `ChainWatch`."""
        if self._ledger.engine.dialect.name != "postgresql":
            yield ChainWatch(None, ())
            return
        with database_errors("listen for changes"):
            autocommit = self._ledger.engine.execution_options(isolation_level="AUTOCOMMIT")
            connection = autocommit.connect()
        try:
            # Not returned to the pool: it listens until it is closed.
            connection.detach()
            with database_errors("listen for changes"):
                connection.exec_driver_sql(f'LISTEN "{self._channel}"')
            driver = self._ledger.engine.dialect.loaded_dbapi
            yield ChainWatch(connection.connection.driver_connection, driver.Error)
        finally:
            connection.close()

    @property
    def _channel(self) -> str:
        return f"margincast_{self.name}"

    def _head(self, connection: Connection) -> ChainHead:
        row = connection.execute(_HEAD, {"name": self.name}).one_or_none()
        return ChainHead() if row is None else ChainHead(row.seq, row.hash.hex())

    def _newest_elsewhere(self, connection: Connection) -> int:
        """When the newest record of the kinds was recorded in any chain; 0 without any."""
        newest = select(func.max(records.c.recorded_at)).where(records.c.kind.in_(self._kinds))
        return int(connection.execute(newest).scalar_one() or 0)

    def _broken(self, head: ChainHead) -> AlteredError:
        return AlteredError(
            f"chain {self.name!r} does not continue from record {head.seq}, held here: "
            "it was cut, altered or restored from an older copy; verify the ledger and start again"
        )


class ChainWatch:
    """Waits until a chain may have changed.

    Parameters
    ----------
    listener:
        Connection of psycopg that listens; None: the chain is looked at every `POLL_SECONDS`.
    errors:
        What the connection raises where it is lost.
    """

    def __init__(
        self, listener: Any, errors: type[Exception] | tuple[type[Exception], ...]
    ) -> None:
        self._listener, self._errors = listener, errors

    def wait(self, stop: threading.Event) -> None:
        """Return at a notification, or where there is none after a short time at most.

        Parameters
        ----------
        stop:
            Ends the wait on SQLite at once and on PostgreSQL after `LISTEN_SECONDS`.

        Raises
        ------
        LedgerError
            The connection is lost.
        """
        if self._listener is None:
            stop.wait(POLL_SECONDS)
            return
        try:
            for _ in self._listener.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                return
        except self._errors as error:
            raise LedgerError(
                f"the ledger no longer notifies of changes ({error}); its database is connected to "
                "again"
            ) from error
