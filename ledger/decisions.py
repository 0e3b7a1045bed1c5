"""Decisions of accounts: the newest of each, pages of one account, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    String,
    bindparam,
    column,
    select,
    values,
)

from ledger.contents import CanonicalContent
from ledger.idempotency import IdempotentAnswer
from ledger.records import Entry
from ledger.schema import in_batches, records
from market.core.errors import LedgerError

_NEWEST_FIRST = (records.c.recorded_at.desc(), records.c.seq.desc(), records.c.chain.desc())
_MICROSECOND = 1_000


@dataclass(frozen=True, slots=True)
class Draft:
    """Decisions to record, see `Ledger.append_decisions`.

    Attributes
    ----------
    entries, contents, answer:
        As in `Ledger.append`.
    based_on:
        For each account whose decision continues from its last recorded one, the id of that
        record; None where the account had none.
    """

    entries: Sequence[Entry]
    contents: Sequence[tuple[str, dict[str, Any] | CanonicalContent]] = ()
    answer: IdempotentAnswer | None = None
    based_on: Mapping[str, str | None] = field(default_factory=dict)


_FEW = 8
"""Up to so many accounts are looked up one by one: that statement is compiled once."""

_NEWEST_ID = (
    select(records.c.id, records.c.recorded_at)
    .where(records.c.kind == "decision", records.c.account_id == bindparam("account"))
    .order_by(*_NEWEST_FIRST)
    .limit(1)
)


def newest_ids(connection: Connection, account_ids: Collection[str]) -> dict[str, tuple[str, int]]:
    """Id and `recorded_at` of the newest decision of each account that has one, on any chain."""
    found: dict[str, tuple[str, int]] = {}
    if len(account_ids) <= _FEW:
        for account_id in account_ids:
            newest = connection.execute(_NEWEST_ID, {"account": account_id}).first()
            if newest is not None:
                found[account_id] = newest.id, newest.recorded_at
        return found
    for batch in in_batches(account_ids):
        for row in connection.execute(
            newest_decisions(batch).with_only_columns(
                records.c.account_id, records.c.id, records.c.recorded_at
            )
        ):
            found[row.account_id] = row.id, row.recorded_at
    return found


def newest_decisions(account_ids: list[str]) -> Select[Any]:
    """Records of the newest decision of each account, one index look-up for each."""
    wanted = (
        values(column("account_id", String), name="wanted")
        .data([(account_id,) for account_id in account_ids])
        .cte("wanted")
    )
    decision = records.alias("decision")
    newest = (
        select(decision.c.id)
        .where(decision.c.kind == "decision", decision.c.account_id == wanted.c.account_id)
        .order_by(decision.c.recorded_at.desc(), decision.c.seq.desc(), decision.c.chain.desc())
        .limit(1)
        .correlate(wanted)
        .scalar_subquery()
    )
    return select(records).join_from(wanted, records, records.c.id == newest)


def newest_without(since: Mapping[str, int], text: str) -> Select[Any]:
    """Records of the newest decision of each account whose payload does not hold a text.

    Parameters
    ----------
    since:
        For each account how far to look back, by `recorded_at`.
    text:
        The text, without the wild cards of SQL.
    """
    wanted = (
        values(column("account_id", String), column("since", BigInteger), name="wanted")
        .data(list(since.items()))
        .cte("wanted")
    )
    decision = records.alias("decision")
    newest = (
        select(decision.c.id)
        .where(
            decision.c.kind == "decision",
            decision.c.account_id == wanted.c.account_id,
            decision.c.recorded_at >= wanted.c.since,
            decision.c.payload.not_like(f"%{text}%"),
        )
        .order_by(decision.c.recorded_at.desc(), decision.c.seq.desc(), decision.c.chain.desc())
        .limit(1)
        .correlate(wanted)
        .scalar_subquery()
    )
    return select(records).join_from(wanted, records, records.c.id == newest)


def page_of_account(account_id: str, limit: int, before: int | None) -> Select[Any]:
    """The newest decisions of an account recorded before a time in microseconds, on any chain."""
    if limit < 1:
        raise LedgerError(f"limit is {limit}; give 1 or more")
    query = (
        select(records)
        .where(records.c.kind == "decision", records.c.account_id == account_id)
        .order_by(*_NEWEST_FIRST)
        .limit(limit)
    )
    if before is not None:
        query = query.where(records.c.recorded_at < before * _MICROSECOND)
    return query


def rest_of_microsecond(account_id: str, recorded_at: int, taken: list[str]) -> Select[Any]:
    """Decisions of an account recorded in the same microsecond, not later and not yet known."""
    return (
        select(records)
        .where(
            records.c.kind == "decision",
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
