"""The ledger: append records to hash chains and read them back checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Select, select, tuple_

from ledger import contents as content_store
from ledger.chain import extend, extend_in_rounds, to_record
from ledger.contents import CanonicalContent
from ledger.decisions import (
    Draft,
    Meanwhile,
    microseconds,
    newest_decisions,
    newest_ids,
    newest_without,
    page_of_account,
    read_page,
    rest_of_microsecond,
)
from ledger.idempotency import Answers, entry_of, find, save
from ledger.packing import pack_id
from ledger.records import Entry, Record
from ledger.schema import database_errors, lock, open_engine, records, writing
from market.core.errors import AlteredError, LedgerError

_PAGE = 500
_NO_RECORD = (None, 0)


class Ledger:
    """An append-only record of decisions, and of what they rest on.

    Several processes and threads may share a database and a chain: appending waits its turn, and
    what `append` returned is on disk. A chain belongs to whoever appends to it; reading goes over
    all chains of the database.

    Parameters
    ----------
    url:
        See `ledger.schema.open_engine`.
    chain:
        The chain to append to.

    Raises
    ------
    LedgerError
        Here and in every method: the database failed or refused.
    """

    def __init__(self, url: str, chain: str = "main") -> None:
        if not chain:
            raise LedgerError("chain is an empty text; give it a name like 'main'")
        self.chain = chain
        self.engine = open_engine(url)
        self.answers = Answers(self.engine)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    @contextmanager
    def transaction(self, wait_seconds: float | None = None) -> Iterator[Connection]:
        """A write transaction, for rows that must be committed together with records.

        Use `ledger.chain.extend` inside it; committed with fsync at the end. SQLite waits for
        other writers as long as `wait_seconds` says, by default `ledger.engines.BUSY_SECONDS`.
        """
        with database_errors("record"), writing(self.engine, wait_seconds) as connection:
            yield connection

    def append(
        self,
        entries: Sequence[Entry],
        *,
        contents: Sequence[tuple[str, dict[str, Any] | CanonicalContent]] = (),
    ) -> list[Record]:
        """Record entries and the contents they rest on: all or none.

        Parameters
        ----------
        entries:
            What to append to the chain, in this order.
        contents:
            Pairs of kind and content to `put` in the same transaction.

        Returns
        -------
        list of Record
            One for each entry, committed and on disk.

        Raises
        ------
        UnrecordableError
            A value has no canonical JSON, an id is taken, or a content named by a payload is
            missing; nothing was recorded.
        LedgerError
            The database failed; nothing was recorded, unless it is an `UnknownOutcomeError`.
        """
        with self.transaction() as connection:
            content_store.put(connection, contents)
            return extend(connection, self.chain, entries)

    def append_decisions(self, draft: Draft, renew: Callable[[Meanwhile], Draft]) -> Draft:
        """Record decisions, each after the one it continues from, and the answers that report
        them, in one transaction: all or none.

        Decisions of all writers are recorded one transaction after the other. Where the newest
        decision of an account is not the one that `draft` is based on, or a request was answered,
        it is decided again before anything is written.

        Parameters
        ----------
        draft:
            What to record.
        renew:
            Called at most once, inside the transaction, with what was recorded meanwhile; gives
            what to record instead. It must not use the ledger.

        Returns
        -------
        What was recorded: `draft`, or what `renew` gave.

        Raises
        ------
        UnrecordableError, LedgerError
            As in `append`.
        """
        with self.transaction() as connection:
            lock(connection, "decisions")
            newest = newest_ids(connection, draft.account_ids)
            outdated = [
                account_id
                for account_id, based_on in draft.based_on.items()
                if newest.get(account_id, _NO_RECORD)[0] != based_on
            ]
            answered = find(connection, draft.requests)
            if outdated or answered:
                gone = [account_id for account_id in outdated if account_id not in newest]
                found = newest_decisions(connection, outdated)
                draft = renew(Meanwhile(found, answered, gone))
            after = max((recorded_at for _, recorded_at in newest.values()), default=0)
            stored = content_store.put(connection, draft.contents)
            covering = [entry_of(answer) for answer in draft.answers]
            rows = extend_in_rounds(
                connection, self.chain, [*draft.rounds, covering], after, stored
            )
            save(connection, draft.answers, rows[len(rows) - len(covering) :])
        return draft

    def put(self, kind: str, content: Mapping[str, Any]) -> str:
        """Store a shared content once; returns the SHA-256 of its canonical JSON."""
        with self.transaction() as connection:
            return content_store.put(connection, [(kind, dict(content))])[0]

    def get(self, sha256: str) -> dict[str, Any]:
        """Read a shared content; raises `LedgerError` if it is missing or was altered."""
        with self._reading() as connection:
            return content_store.get(connection, sha256)

    def get_record(self, id: str) -> Record:  # noqa: A002  the column's name
        """The record of this id; raises `LedgerError` if there is none or it was altered."""
        found = self._fetch(select(records).where(records.c.id == pack_id(id)))
        if not found:
            raise LedgerError(f"record {id!r} is not in the ledger; give an id that was returned")
        return found[0]

    def last_decisions(self, account_ids: Collection[str]) -> dict[str, Record | AlteredError]:
        """The decision recorded last for each account that has one, on any chain.

        Last by the time of recording, not by `as_of`. One index look-up for each account,
        however long its history is. For an altered record, the error in its place.
        """
        with self._reading() as connection:
            return newest_decisions(connection, account_ids)

    def last_decision_ids(self, account_ids: Collection[str]) -> dict[str, str]:
        """Id of the decision recorded last for each account that has one, on any chain."""
        with self._reading() as connection:
            newest = newest_ids(connection, account_ids)
        return {account_id: record for account_id, (record, _) in newest.items()}

    def last_decisions_without(
        self, since: Mapping[str, int], text: str
    ) -> dict[str, Record | AlteredError]:
        """The newest decision of each account whose payload does not hold a text, on any chain.

        Parameters
        ----------
        since:
            For each account how far to look back, by `recorded_at` in nanoseconds.
        text:
            A part of the canonical JSON of payloads that are passed over.
        """
        with self._reading() as connection:
            found = {
                account_id: newest_without(connection, account_id, earliest, text)
                for account_id, earliest in since.items()
            }
        return {name: record for name, record in found.items() if record is not None}

    def decisions_of(
        self, account_id: str, limit: int, before: int | None = None
    ) -> tuple[list[Record], int | None]:
        """Decisions of an account on all chains, the newest first.

        Parameters
        ----------
        account_id:
            The account.
        limit:
            How many, but for those recorded within the microsecond of the last one, which are
            never torn from it.
        before:
            What the page before gave; None for the first page.

        Returns
        -------
        A page, and what leads to the next one; None where there can be none.

        Raises
        ------
        AlteredPageError
            Records of the page were altered; it has the others.
        """
        more: int | None = None
        with self._reading() as connection:
            rows = list(connection.execute(page_of_account(account_id, limit, before)))
            if len(rows) >= limit:
                last, taken = rows[-1].recorded_at, [row.id for row in rows]
                rows += connection.execute(rest_of_microsecond(account_id, last, taken))
                more = microseconds(last)
        return read_page(rows, more), more

    def last_record(self, kind: str) -> Record | None:
        """The record of a kind that was recorded last, on any chain; None where there is none."""
        order = (records.c.recorded_at.desc(), records.c.chain.desc(), records.c.seq.desc())
        query = select(records).where(records.c.kind == kind).order_by(*order).limit(1)
        return next(iter(self._fetch(query)), None)

    def records(
        self, kind: str, since_as_of: int | None = None, since_recorded: int | None = None
    ) -> Iterator[Record]:
        """Records of a kind from all chains in the order of recording, read page by page.

        Parameters
        ----------
        kind:
            The kind of `Entry`.
        since_as_of:
            Only records with this `as_of` or a later one; records without one are left out.
        since_recorded:
            Only records with this `recorded_at` or a later one.
        """
        place = tuple_(records.c.recorded_at, records.c.chain, records.c.seq)
        query = select(records).where(records.c.kind == kind)
        if since_as_of is not None:
            query = query.where(records.c.as_of >= since_as_of)
        if since_recorded is not None:
            query = query.where(records.c.recorded_at >= since_recorded)
        query = query.order_by(records.c.recorded_at, records.c.chain, records.c.seq).limit(_PAGE)
        page = self._fetch(query)
        while page:
            yield from page
            last = page[-1]
            page = self._fetch(query.where(place > (last.recorded_at, last.chain, last.seq)))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with database_errors("read"), self.engine.connect() as connection:
            yield connection

    def _fetch(self, query: Select[Any]) -> list[Record]:
        with self._reading() as connection:
            return [to_record(row) for row in connection.execute(query)]
