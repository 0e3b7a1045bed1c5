"""Decisions of accounts: the newest of each, pages of one account, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select

from ledger.chain import to_record, unpacked_row
from ledger.contents import CanonicalContent
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.packing import unpack_id
from ledger.records import EncodedEntry, Record
from ledger.schema import IS_DECISION, records
from ledger.statements import json_list, statements
from market.core.errors import AlteredError, LedgerError

_NEWEST_FIRST = (records.c.recorded_at.desc(), records.c.seq.desc(), records.c.chain.desc())
_MICROSECOND = 1_000
_READ_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Draft:
    """Decisions to record, see `Ledger.append_decisions`.

    Attributes
    ----------
    rounds:
        The decisions in order. A round decides on each account once; a later round continues from
        it and counts as recorded after it.
    contents:
        Pairs of kind and shared content, as in `Ledger.append`.
    answers:
        Answers to keep under their idempotency keys.
    based_on:
        For each account whose decision continues from its last recorded one, the id of that
        record; None where the account had none.
    keys:
        Of all requests that may be repeated, also of those that the draft does not answer: made
        again, it may.
    """

    rounds: Sequence[Sequence[EncodedEntry]]
    contents: Sequence[tuple[str, dict[str, Any] | CanonicalContent]] = ()
    answers: Sequence[IdempotentAnswer] = ()
    based_on: Mapping[str, str | None] = field(default_factory=dict)
    keys: Collection[RequestKey] = ()

    @property
    def requests(self) -> set[RequestKey]:
        """Requests that may have been answered meanwhile."""
        return {*self.keys, *(answer.request for answer in self.answers)}

    @property
    def account_ids(self) -> set[str]:
        """Accounts that are decided on or looked at."""
        decided = {
            encoded.entry.account_id
            for entries in self.rounds
            for encoded in entries
            if encoded.entry.account_id is not None
        }
        return decided | self.based_on.keys()


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What other writers recorded since a draft was made.

    Attributes
    ----------
    newest:
        The newest record of each account whose decision in the draft is outdated, or why it
        cannot be relied on.
    answered:
        The answers to requests of the draft.
    gone:
        Accounts whose record the draft is based on and that have none now, as in an older copy of
        the database.
    """

    newest: Mapping[str, Record | AlteredError]
    answered: Mapping[RequestKey, IdempotentAnswer]
    gone: Collection[str] = ()


def newest_ids(connection: Connection, account_ids: Collection[str]) -> dict[str, tuple[str, int]]:
    """Id and `recorded_at` of the newest decision of each account that has one, on any chain."""
    if not account_ids:
        return {}
    rows = connection.exec_driver_sql(statements(connection).newest_ids, json_list(account_ids))
    return {name: (unpack_id(packed), recorded_at) for name, packed, recorded_at in rows}


class AlteredRecord(NamedTuple):
    """A record that is not as it was recorded: its place, and what is wrong with it."""

    chain: str
    seq: int
    detail: str


class AlteredPageError(AlteredError):
    """Records of a page were altered.

    Parameters
    ----------
    sound:
        The other records of the page.
    altered:
        Those that were altered.
    next_before:
        What leads to the next page, as of `Ledger.decisions_of`.
    """

    def __init__(
        self, sound: Sequence[Record], altered: Sequence[AlteredRecord], next_before: int | None
    ) -> None:
        super().__init__(altered[0].detail)
        self.sound, self.altered, self.next_before = sound, altered, next_before


def read_page(rows: Sequence[Row[Any]], next_before: int | None) -> list[Record]:
    """The records of the rows of a page; raises `AlteredPageError` where some were altered."""
    sound: list[Record] = []
    altered: list[AlteredRecord] = []
    for row in rows:
        record = _checked(row)
        if isinstance(record, Record):
            sound.append(record)
        else:
            altered.append(AlteredRecord(str(row.chain), row.seq, str(record)))
    if altered:
        raise AlteredPageError(sound, altered, next_before)
    return sound


def _checked(row: Row[Any]) -> Record | AlteredError:
    try:
        return to_record(row)
    except AlteredError as error:
        return error


def newest_decisions(
    connection: Connection, account_ids: Collection[str]
) -> dict[str, Record | AlteredError]:
    """The newest decision of each account that has one, on any chain; one index look-up each.

    For an altered record, the error in its place: other accounts are not affected.
    """
    if not account_ids:
        return {}
    query = statements(connection).newest_decisions
    rows = connection.exec_driver_sql(query, json_list(account_ids))
    return {row.account_id: _checked(row) for row in rows}


def newest_without(
    connection: Connection, account_id: str, since: int, text: str
) -> Record | AlteredError | None:
    """The newest decision of an account whose payload does not hold a text; None without one.

    Parameters
    ----------
    connection:
        To the database.
    account_id:
        The account.
    since:
        How far to look back, by `recorded_at`.
    text:
        Part of the canonical JSON of payloads that are passed over.
    """
    query = (
        select(records)
        .where(IS_DECISION, records.c.account_id == account_id, records.c.recorded_at >= since)
        .order_by(*_NEWEST_FIRST)
    )
    try:
        with connection.execution_options(yield_per=_READ_AT_ONCE).execute(query) as rows:
            found = next(
                (row for row in rows if text not in unpacked_row(row._mapping)["payload"]), None
            )
        return None if found is None else to_record(found)
    except AlteredError as error:
        return error


def page_of_account(account_id: str, limit: int, before: int | None) -> Select[Any]:
    """The newest decisions of an account recorded before a time in microseconds, on any chain."""
    if limit < 1:
        raise LedgerError(f"limit is {limit}; give 1 or more")
    query = (
        select(records)
        .where(IS_DECISION, records.c.account_id == account_id)
        .order_by(*_NEWEST_FIRST)
        .limit(limit)
    )
    if before is not None:
        query = query.where(records.c.recorded_at < before * _MICROSECOND)
    return query


def rest_of_microsecond(account_id: str, recorded_at: int, taken: list[bytes]) -> Select[Any]:
    """Decisions of an account recorded in the same microsecond, not later and not yet known.

    `taken` are the known ids as they are stored.
    """
    return (
        select(records)
        .where(
            IS_DECISION,
            records.c.account_id == account_id,
            records.c.recorded_at >= microseconds(recorded_at) * _MICROSECOND,
            records.c.recorded_at <= recorded_at,
            records.c.id.not_in(taken),
        )
        .order_by(*_NEWEST_FIRST)
    )


def microseconds(recorded_at: int) -> int:
    """A time of recording in whole microseconds, which every JSON reader holds exactly."""
    return recorded_at // _MICROSECOND
