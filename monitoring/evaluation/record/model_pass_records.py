"""Records of model passes, the newest first, within limits.

The chain of evaluations holds rule passes between model passes, many more of them. The beginning of
a payload says which pass it is of, so a rule pass is passed over without reading the rest of it. No
hash can cover a beginning: it only ever leads to passing over what says clearly that it is a rule
pass, and `ledger.verify` checks every record. What is read in full is checked against its hash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import LargeBinary, Row, func, select

from ledger.archive.segments import ARCHIVE, read_segments
from ledger.chain import to_record
from ledger.packing.texts import unpack_beginning
from ledger.records import Record
from ledger.schema import database_errors, records
from ledger.store import Ledger
from margin.life_cycle.states import States
from market.core.errors import AlteredError
from monitoring.evaluation.record.evaluation_state import CHAIN, EVALUATION

Ended = Literal["first", "archived", "passes", "records", "size", "time"]
"""Why no older pass was read: there is none, older ones were archived, or a limit was reached."""

_PAGE = 500
_BEGINNING = 1024
"""Stored bytes of a payload that are looked at; what stands before its columns takes some 300."""

_COLUMN = re.compile(rb'"columns":\{"([a-z_]+)"')
_FIRST_OF_STATES = min("changed", "names", *States.healthy(0).columns()).encode()
"""Keys of canonical JSON are sorted: the columns of a rule pass begin with this one."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How far back is read; what is reached first ends it.

    Attributes
    ----------
    passes:
        Model passes that the caller takes.
    records:
        Records of the chain that are looked at, rule passes included.
    stored_bytes:
        Bytes of records that are read in full, as they are stored; one is always read.
    seconds:
        Time, looked at before each record; one is always read.
    """

    passes: int = 168
    records: int = 20_000
    stored_bytes: int = 96 * 2**20
    seconds: float = 1.5


@dataclass(frozen=True, slots=True)
class AlteredPass:
    """A record that cannot be relied on, or several that are missing.

    Attributes
    ----------
    seq:
        Its number in the chain, of missing ones the last.
    as_of:
        The time that its row states, nanoseconds; None without one. It is not checked.
    detail:
        What is wrong, in words.
    """

    seq: int
    as_of: int | None
    detail: str


class ModelPassReader:
    """Reads the model passes of a ledger back from the newest; iterate over it once.

    Parameters
    ----------
    ledger:
        Where they are.
    limits:
        How far back; `ReadLimits.passes` is left to the caller.

    Attributes
    ----------
    ended:
        Why the iteration ended, once it has.

    Raises
    ------
    LedgerError
        While iterating: the ledger cannot be read.
    """

    def __init__(self, ledger: Ledger, limits: ReadLimits) -> None:
        self.ended: Ended = "first"
        self._ledger, self._limits = ledger, limits
        self._looked_at = self._bytes = 0
        self._until = time.monotonic() + limits.seconds

    def __iter__(self) -> Iterator[Record | AlteredPass]:
        """Model passes and what was altered among the records, the newest first."""
        newer: int | None = None
        while page := self._page(newer):
            for row in page:
                if newer is not None and row.seq != newer - 1:
                    if self._was_archived(newer - 1):
                        self.ended = "archived"
                        return
                    yield _missing(row.seq + 1, newer - 1)
                newer = int(row.seq)
                self._looked_at += 1
                if row.kind == ARCHIVE or _is_rule_pass(row):
                    continue
                limit = self._reached(row.size)
                if limit is not None:
                    self.ended = limit
                    return
                found = self._read(row)
                if found is not None:
                    yield found
            if newer is not None and newer > 1 and self._looked_at >= self._limits.records:
                self.ended = "records"
                return
        if newer is not None and newer > 1:
            if self._was_archived(newer - 1):
                self.ended = "archived"
            else:
                yield _missing(1, newer - 1)

    def _page(self, newer: int | None) -> list[Row[Any]]:
        c = records.c
        query = (
            select(
                *(c.seq, c.kind, c.as_of),
                func.length(c.payload).label("size"),
                func.substr(c.payload, 1, _BEGINNING, type_=LargeBinary).label("beginning"),
            )
            .where(c.chain == CHAIN)
            .order_by(c.seq.desc())
            .limit(min(_PAGE, max(1, self._limits.records - self._looked_at)))
        )
        if newer is not None:
            query = query.where(c.seq < newer)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            return list(connection.execute(query))

    def _reached(self, size: int) -> Ended | None:
        """The limit that a further record of some bytes would break; counts the bytes."""
        first, self._bytes = not self._bytes, self._bytes + size
        if first:
            return None
        if self._bytes > self._limits.stored_bytes:
            return "size"
        return "time" if time.monotonic() > self._until else None

    def _read(self, row: Row[Any]) -> Record | AlteredPass | None:
        """The record of a row, if it is a model pass and sound."""
        query = select(records).where(records.c.chain == CHAIN, records.c.seq == row.seq)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            return _missing(row.seq, row.seq)
        try:
            record = to_record(found)
        except AlteredError as error:
            return AlteredPass(row.seq, row.as_of, str(error))
        is_model = record.kind == EVALUATION and record.payload.get("pass") == "model"
        return record if is_model else None

    def _was_archived(self, seq: int) -> bool:
        with database_errors("read"), self._ledger.engine.connect() as connection:
            found = read_segments(connection)
        return any(s.chain == CHAIN and s.first_seq <= seq <= s.last_seq for s in found)


def _is_rule_pass(row: Row[Any]) -> bool:
    """Whether a row is clearly of a rule pass, by the beginning of its payload."""
    try:
        column = _COLUMN.search(unpack_beginning(bytes(row.beginning)))
    except (AlteredError, TypeError):
        return False
    return column is not None and column[1] == _FIRST_OF_STATES


def _missing(first: int, last: int) -> AlteredPass:
    some = f"record {last} is" if first == last else f"records {first} to {last} are"
    return AlteredPass(last, None, f"{some} missing from chain {CHAIN!r}; verify the ledger")
