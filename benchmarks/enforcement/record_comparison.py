"""Whether two ledgers hold the same records of enforcement, read side by side in order of ids."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ledger.chain import to_record
from ledger.packing import pack_id
from ledger.records import Record
from ledger.schema import records
from ledger.store import Ledger

KINDS = ("call", "instruction", "default_resources", "control")

ROUNDING = 1e-9
"""Relative difference of amounts that counts as rounding."""

_DIFFERS = ("evaluation", "trigger")
"""Fields that name the evaluation: a start makes one more, and numbers them otherwise."""

_PAGE = 1_000


@dataclass(slots=True)
class Comparison:
    """What two ledgers have in common.

    Attributes
    ----------
    records:
        How many the first one has.
    events:
        How often each event occurred in it.
    missing, in_excess, different:
        Ids of records that only the first one has, that only the second one has, and whose contents
        differ.
    """

    records: int = 0
    events: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    in_excess: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def differs(self) -> dict[str, list[str]]:
        """The lists of ids that are not empty."""
        lists = {name: getattr(self, name) for name in ("missing", "in_excess", "different")}
        return {name: ids for name, ids in lists.items() if ids}


def compare(first: Path, second: Path) -> Comparison:
    """Compare the records of enforcement of two SQLite ledgers by their ids.

    Amounts are equal up to `ROUNDING`: a start evaluates all accounts at once where a monitor that
    runs on begins with the urgent ones, and vector units round powers by the place in an array.

    Raises
    ------
    LedgerError
        A record cannot be read, or does not match its hash.
    """
    found = Comparison()
    ones, others = _by_id(first), _by_id(second)
    one, other = next(ones, None), next(others, None)
    while one is not None:
        while other is not None and pack_id(other.id) < pack_id(one.id):
            found.in_excess.append(other.id)
            other = next(others, None)
        found.records += 1
        found.events[f"{one.kind}.{one.payload.get('event', '')}"] += 1
        if other is None or other.id != one.id:
            found.missing.append(one.id)
        else:
            if not _same(_content(one), _content(other)):
                found.different.append(one.id)
            other = next(others, None)
        one = next(ones, None)
    while other is not None:
        found.in_excess.append(other.id)
        other = next(others, None)
    return found


def find(path: Path, record_id: str) -> Record | None:
    """A record of enforcement; None where there is none."""
    return next((record for record in _by_id(path) if record.id == record_id), None)


def _by_id(path: Path) -> Iterator[Record]:
    query = select(records).where(records.c.kind.in_(KINDS)).order_by(records.c.id)
    with Ledger(f"sqlite:///{path}") as ledger, ledger.engine.connect() as connection:
        rows = connection.execution_options(yield_per=_PAGE).execute(query)
        yield from map(to_record, rows)


def _content(record: Record) -> dict[str, Any]:
    kept = {name: value for name, value in record.payload.items() if name not in _DIFFERS}
    return kept | {"as_of": record.as_of}


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=1e-6)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
