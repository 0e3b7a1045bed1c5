"""The ledger: append facts to a hash chain, read them back checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Select, select, tuple_

from ledger import contents as content_store
from ledger.chain import extend, to_record
from ledger.contents import CanonicalContent
from ledger.decisions import (
    Draft,
    microseconds,
    newest_decisions,
    newest_ids,
    newest_without,
    page_of_account,
    rest_of_microsecond,
)
from ledger.idempotency import Answers, IdempotentAnswer, save
from ledger.records import Entry, Record
from ledger.schema import database_errors, in_batches, lock, open_engine, records, writing
from market.core.errors import LedgerError

_PAGE = 500


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
        other writers as long as `wait_seconds` says, by default `ledger.schema.BUSY_SECONDS`.
        """
        with database_errors("record"), writing(self.engine, wait_seconds) as connection:
            yield connection

    def append(
        self,
        entries: Sequence[Entry],
        *,
        contents: Sequence[tuple[str, dict[str, Any] | CanonicalContent]] = (),
        answer: IdempotentAnswer | None = None,
    ) -> list[Record]:
        """Record entries, the contents they rest on and the answer that reports them: all or none.

        Parameters
        ----------
        entries:
            What to append to the chain, in this order.
        contents:
            Pairs of kind and content to `put` in the same transaction.
        answer:
            The answer to keep under its idempotency key, if the request carried one.

        Returns
        -------
        list of Record
            One for each entry, committed and on disk.

        Raises
        ------
        LedgerDuplicateError
            The request is already answered, perhaps by another process; nothing was recorded.
        LedgerConflictError
            The idempotency key was used with another body; nothing was recorded.
        UnrecordableError
            A value has no canonical JSON, an id is taken, or a content named by a payload is
            missing; nothing was recorded.
        LedgerError
            The database failed; nothing was recorded.
        """
        draft = Draft(entries, contents, answer)
        with self.transaction() as connection:
            return self._append(connection, draft, after=0)

    def append_decisions(
        self, draft: Draft, renew: Callable[[Mapping[str, Record]], Draft]
    ) -> Draft:
        """Record decisions, each after the one it continues from: all or none.

        Decisions of all writers are recorded one transaction after the other. Where another
        decision of an account was recorded since the one that `draft` is based on, the account
        is decided again before anything is written.

        Parameters
        ----------
        draft:
            What to record.
        renew:
            Called at most once, inside the transaction, with the newest record of each account
            whose decision is outdated; gives what to record instead. It must not use the ledger.

        Returns
        -------
        What was recorded: `draft`, or what `renew` gave.

        Raises
        ------
        LedgerDuplicateError, LedgerConflictError, UnrecordableError, LedgerError
            As in `append`; nothing was recorded.
        """
        with self.transaction() as connection:
            lock(connection, "decisions")
            newest = newest_ids(connection, draft.based_on)
            outdated = [
                account_id
                for account_id, based_on in draft.based_on.items()
                if account_id in newest and newest[account_id][0] != based_on
            ]
            if outdated:
                draft = renew(_last_decisions(connection, outdated))
            after = max((recorded_at for _, recorded_at in newest.values()), default=0)
            self._append(connection, draft, after)
        return draft

    def _append(self, connection: Connection, draft: Draft, after: int) -> list[Record]:
        if draft.answer is not None:
            save(connection, draft.answer)
        for kind, content in draft.contents:
            content_store.put(connection, kind, content)
        return extend(connection, self.chain, draft.entries, after)

    def put(self, kind: str, content: Mapping[str, Any]) -> str:
        """Store a shared content once; returns the SHA-256 of its canonical JSON."""
        with self.transaction() as connection:
            return content_store.put(connection, kind, dict(content))

    def get(self, sha256: str) -> dict[str, Any]:
        """Read a shared content; raises `LedgerError` if it is missing or was altered."""
        with self._reading() as connection:
            return content_store.get(connection, sha256)

    def get_record(self, id: str) -> Record:  # noqa: A002  the column's name
        """The record of this id; raises `LedgerError` if there is none or it was altered."""
        found = self._fetch(select(records).where(records.c.id == id))
        if not found:
            raise LedgerError(f"record {id!r} is not in the ledger; give an id that was returned")
        return found[0]

    def last_decisions(self, account_ids: Sequence[str]) -> dict[str, Record]:
        """The decision recorded last for each account that has one, on any chain.

        Last by the time of recording, not by `as_of`. One index look-up for each account,
        however long its history is.
        """
        with self._reading() as connection:
            return _last_decisions(connection, account_ids)

    def last_decisions_without(self, since: Mapping[str, int], text: str) -> dict[str, Record]:
        """The newest decision of each account whose payload does not hold a text, on any chain.

        Parameters
        ----------
        since:
            For each account how far to look back, by `recorded_at` in nanoseconds.
        text:
            A part of the canonical JSON of payloads that are passed over.
        """
        found: list[Record] = []
        for batch in in_batches(since):
            query = newest_without({account_id: since[account_id] for account_id in batch}, text)
            found.extend(self._fetch(query))
        return {record.account_id: record for record in found if record.account_id is not None}

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
        """
        page = self._fetch(page_of_account(account_id, limit, before))
        if len(page) < limit:
            return page, None
        last = page[-1].recorded_at
        page += self._fetch(rest_of_microsecond(account_id, last, [record.id for record in page]))
        return page, microseconds(last)

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


def _last_decisions(connection: Connection, account_ids: Sequence[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for batch in in_batches(account_ids):
        for row in connection.execute(newest_decisions(batch)):
            found[row.account_id] = to_record(row)
    return found
