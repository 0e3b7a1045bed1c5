"""Totals of the live book over time: a small record beside each rule pass that holds all accounts.

An evaluation record holds columns of all accounts, so a history of totals that read them would
read the whole book for each point. The totals are therefore records of a chain of their own,
written in the transaction of the evaluation that they name, and a replay of it computes them again.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select

from ledger.chain import to_record
from ledger.following import ChainHead, SharedChain
from ledger.records import Entry, Record
from ledger.schema import database_errors, records
from ledger.store import Ledger
from market.core.errors import AlteredError
from monitoring.evaluation.passes.rules_pass import RuleColumns

TOTALS = "book_totals"
"""Kind of the ledger entries with totals of the live book."""

TOTALS_CHAIN = "monitoring-totals"
"""Their chain."""

MOST_TOTALS = 10_000
"""Newest totals that a history holds: a week of one a minute."""

AMOUNTS = ("equity", "maintenance_margin", "initial_margin", "add_on")
"""Columns that are added up."""

_TOLERANCE = 1e-9
"""Relative: in which order a processor adds is its own matter."""


@dataclass(frozen=True, slots=True)
class BookTotals:
    """Totals of the live book at one time, settlement currency.

    Attributes
    ----------
    as_of:
        Time of the market, nanoseconds.
    accounts:
        How many accounts are added up: those with figures.
    equity, maintenance_margin, initial_margin, add_on:
        Sums over these accounts.
    """

    as_of: int
    accounts: int
    equity: float
    maintenance_margin: float
    initial_margin: float
    add_on: float

    @property
    def total_requirement(self) -> float:
        """Maintenance margin + add-on."""
        return self.maintenance_margin + self.add_on


def totals_of(columns: RuleColumns) -> dict[str, Any] | None:
    """Totals of a rule pass: the sum of each of `AMOUNTS` over the accounts with figures.

    Accounts with NaN or an infinite amount are left out of all sums and of `accounts`. None where
    a sum is beyond the range of a float.
    """
    amounts = [getattr(columns, name) for name in AMOUNTS]
    known = np.logical_and.reduce([np.isfinite(amount) for amount in amounts])
    with np.errstate(over="ignore"):
        sums = [float(amount[known].sum()) for amount in amounts]
    if not all(map(math.isfinite, sums)):
        return None
    return {"accounts": int(known.sum()), **dict(zip(AMOUNTS, sums, strict=True))}


def totals_entry(totals: Mapping[str, Any], evaluation: int, as_of: int | None) -> Entry:
    """Totals as they are recorded beside the evaluation with this number in its chain."""
    return Entry(kind=TOTALS, payload={**totals, "evaluation": evaluation}, as_of=as_of)


def recorded_totals(ledger: Ledger, evaluation: Record) -> dict[str, Any] | None:
    """Totals that were recorded beside an evaluation.

    None without any: a record of an earlier version, or of a pass that does not hold all accounts.

    Raises
    ------
    LedgerError
        They cannot be read or were altered.
    """
    query = select(records).where(
        records.c.kind == TOTALS,
        records.c.as_of == evaluation.as_of,
        records.c.chain == TOTALS_CHAIN,
    )
    with database_errors("read"), ledger.engine.connect() as connection:
        found = [to_record(row) for row in connection.execute(query)]
    for record in found:
        payload = dict(record.payload)
        if payload.pop("evaluation") == evaluation.seq:
            return payload
    return None


def totals_that_differ(recorded: Mapping[str, Any], again: Mapping[str, Any] | None) -> list[str]:
    """Names of recorded totals that a replay finds otherwise, beyond the order of addition."""
    if again is None:
        return sorted(recorded)
    return [
        name
        for name in sorted(recorded)
        if not math.isclose(recorded[name], again.get(name, math.nan), rel_tol=_TOLERANCE)
    ]


class TotalsHistory:
    """The newest totals of a ledger. Safe to use from several threads.

    Parameters
    ----------
    ledger:
        Where they are.
    kept:
        Most totals; older ones are not read.
    """

    def __init__(self, ledger: Ledger, kept: int = MOST_TOTALS) -> None:
        self._chain = SharedChain(ledger, TOTALS_CHAIN)
        self._lock = threading.Lock()
        self._head: ChainHead | None = None
        self._newest: deque[BookTotals] = deque(maxlen=kept)

    def since(self, as_of: int) -> list[BookTotals]:
        """Totals not before a time, nanoseconds, the oldest first; what is new is read before.

        Raises
        ------
        LedgerError
            They cannot be read or were altered.
        """
        with self._lock:
            self._follow()
            return [totals for totals in self._newest if totals.as_of >= as_of]

    def _follow(self) -> None:
        head = self._head
        if head is None:
            newest, kept = self._chain.head().seq, self._newest.maxlen or 0
            head = self._chain.before(newest - kept + 1)
        self._head = head
        for record in self._chain.after(head):
            if record.kind == TOTALS:
                self._newest.append(_totals(record))
            self._head = ChainHead.of(record)  # what was read once is not read again


def _totals(record: Record) -> BookTotals:
    payload = record.payload
    try:
        amounts = [float(payload[name]) for name in AMOUNTS]
        return BookTotals(record.as_of or 0, int(payload["accounts"]), *amounts)
    except (KeyError, TypeError, ValueError) as error:
        raise AlteredError(
            f"totals {record.id!r} of the live book cannot be read ({error!r}): the record was "
            "altered, or a newer version wrote it; verify the ledger"
        ) from error
