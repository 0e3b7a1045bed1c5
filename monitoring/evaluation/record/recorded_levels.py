"""Levels of decisions that others recorded, where they are newer than those of the live book."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import select

from decisions.book_scoring import PreviousAddOn
from decisions.levels_in_force import LevelsInForce, level_by
from ledger.packing import unpack_id
from ledger.schema import database_errors, records
from ledger.store import Ledger
from market.core.clock import MINUTE
from market.core.errors import LedgerError
from monitoring.evaluation.record.evaluation_record import DECISION_CHAIN

OVERLAP = MINUTE
"""Decisions that were recorded so much before the last look are looked at again: transactions of
other writers become visible in another order than they began, nanoseconds."""

_AT_ONCE = 2_000

_LOG = logging.getLogger("margincast.monitor")


class RecordedLevel(NamedTuple):
    """A decision that an evaluation continues from: its id, and the level after it."""

    record: str
    level: PreviousAddOn


def newest_levels(ledger: Ledger, names: Sequence[str]) -> dict[str, RecordedLevel]:
    """The level of the newest decision of each account that has one; raises as `LevelsInForce`."""
    levels = LevelsInForce(ledger, max_kept=0)
    found: dict[str, RecordedLevel] = {}
    for start in range(0, len(names), _AT_ONCE):
        for name, known in levels.of(names[start : start + _AT_ONCE]).items():
            if known.record is not None and known.level is not None:
                found[name] = RecordedLevel(known.record, known.level)
    return found


def levels_since(
    ledger: Ledger, since: int, is_newer: Callable[[str, int], bool]
) -> dict[str, RecordedLevel]:
    """The level of the newest decision of each account that others recorded since a time.

    Parameters
    ----------
    ledger:
        Where they are.
    since:
        By `recorded_at`, nanoseconds.
    is_newer:
        Whether a decision on an account of a time is newer than the level in force of the live
        book; others are not read.

    Raises
    ------
    LedgerError
        The ledger cannot be read. An altered decision is left out and logged.
    """
    newest = {name: record for name, record, as_of in _rows(ledger, since) if is_newer(name, as_of)}
    return {
        name: RecordedLevel(record, level)
        for name, record in newest.items()
        if (level := _level(ledger, record)) is not None
    }


def levels_of(ledger: Ledger, continued: Mapping[str, str]) -> dict[str, PreviousAddOn]:
    """The levels after recorded decisions by the ids of the records; raises `LedgerError`."""
    levels = {name: level_by(ledger.get_record(record)) for name, record in continued.items()}
    return {name: found.level for name, found in levels.items() if found.level is not None}


def _rows(ledger: Ledger, since: int) -> Iterator[tuple[str, str, int]]:
    """Account, id and time of the decisions of others, in the order of recording."""
    query = (
        select(records.c.account_id, records.c.id, records.c.as_of)
        .where(records.c.kind == "decision", records.c.recorded_at >= since - OVERLAP)
        .where(records.c.chain != DECISION_CHAIN)
        .order_by(records.c.recorded_at, records.c.chain, records.c.seq)
    )
    with database_errors("read"), ledger.engine.connect() as connection:
        for row in connection.execute(query):
            if row.account_id is not None and row.as_of is not None:
                yield str(row.account_id), unpack_id(row.id), int(row.as_of)


def _level(ledger: Ledger, record: str) -> PreviousAddOn | None:
    try:
        return level_by(ledger.get_record(record)).level
    except LedgerError as error:
        _LOG.error("the live book does not continue from a decision: %s", error)
        return None
