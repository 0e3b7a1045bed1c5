"""Add-ons in force by the records: read from the ledger, and the newest ones kept in memory."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from decisions.account_validation import ValidatedAccounts
from decisions.book_scoring import PreviousAddOn
from decisions.messages import AccountProblem
from ledger.records import Record
from ledger.store import Ledger
from market.core.clock import DAY, parse_time
from market.core.errors import AlteredError

LOOK_BACK = DAY
"""How far back a level is looked for in records that do not carry it, nanoseconds."""

MAX_KEPT = 200_000
"""Most accounts and positions together whose levels are kept in memory, about 50 MB."""

ALONE_SECONDS = 10.0
"""Kept levels count as the newest once no other writer was noticed for this time."""

ALTERED_RECORD = "altered-record"
"""Type of the problem of an account whose newest record was altered."""

_LOG = logging.getLogger("margincast.decisions")

_FALLBACK = '"binding":"fallback"'
"""Part of the canonical JSON of a decision that the model did not answer."""


class LevelInForce(NamedTuple):
    """The add-on in force of an account by the ledger.

    Attributes
    ----------
    record:
        Id of the account's newest decision, None where it has none.
    level:
        The level that the model last set; None without one.
    altered:
        Why the record cannot be relied on; None where it can. Then there is no level.
    """

    record: str | None
    level: PreviousAddOn | None
    altered: str | None = None


class LevelsInForce:
    """The add-ons in force of accounts by a ledger. Safe to use from several threads.

    What is in force after a record never changes, so the levels of the accounts that were used
    last are kept beside the ids of their records.

    Parameters
    ----------
    ledger:
        The ledger.
    max_kept:
        Most accounts and positions that are kept.
    evaluated:
        Gives the level that the continuous evaluation of the live book last set for an account,
        None where there is none: it is in force where it is newer than that of the record.
    """

    def __init__(
        self,
        ledger: Ledger,
        max_kept: int = MAX_KEPT,
        evaluated: Callable[[str], PreviousAddOn | None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._evaluated = evaluated
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, LevelInForce] = OrderedDict()
        self._size = 0
        self._noticed = -math.inf

    def expected(self, account_ids: Collection[str]) -> dict[str, LevelInForce]:
        """The level in force of each account, from memory where no other writer was noticed.

        For those who compare the ids of the newest records before they rely on them, as
        `Ledger.append_decisions` does; raises as `of`.
        """
        if time.monotonic() - self._noticed < ALONE_SECONDS:
            return self.of(account_ids)
        with self._lock:
            known = {name: self._kept[name] for name in account_ids if name in self._kept}
            for name in known:
                self._kept.move_to_end(name)
        unknown = [name for name in account_ids if name not in known]
        levels = self._newer(known)
        return levels | self.of(unknown) if unknown else levels

    def notice_other_writer(self) -> None:
        """Read the newest ids before each decision for a while: there is another writer."""
        self._noticed = time.monotonic()

    def of(self, account_ids: Collection[str]) -> dict[str, LevelInForce]:
        """The level in force of each account by its newest record.

        A fallback to the rule floor sets no level; its record carries the one before. Fallbacks
        that earlier versions recorded carry none: the level is searched in the `LOOK_BACK` before
        them.

        Raises
        ------
        LedgerError
            The ledger cannot be read.
        """
        return self._newer(self._of(account_ids))

    def _newer(self, levels: dict[str, LevelInForce]) -> dict[str, LevelInForce]:
        """The levels, with those of newer evaluations in their place; records stay."""
        if self._evaluated is None:
            return levels
        newer = dict(levels)
        for name, found in levels.items():
            level = self._evaluated(name) if found.altered is None else None
            if level is not None and (found.level is None or level.as_of > found.level.as_of):
                newer[name] = found._replace(level=level)
        return newer

    def _of(self, account_ids: Collection[str]) -> dict[str, LevelInForce]:
        """The level of each account by its newest record, see `of`."""
        levels = dict.fromkeys(account_ids, LevelInForce(None, None))
        newest = self._ledger.last_decision_ids(account_ids)
        if not newest:
            return levels
        unknown: list[str] = []
        with self._lock:
            for name, record in newest.items():
                kept = self._kept.get(name)
                if kept is not None and kept.record == record:
                    self._kept.move_to_end(name)
                    levels[name] = kept
                else:
                    unknown.append(name)
        if unknown:
            read = self._read(unknown)
            self.keep({name: found for name, found in read.items() if found.altered is None})
            levels |= read
        return levels

    def apply(
        self, accounts: ValidatedAccounts
    ) -> tuple[ValidatedAccounts, dict[str, PreviousAddOn]]:
        """The accounts that can be decided on, and the add-on in force of each that has one.

        Those whose newest record was altered are left out with their problem; raises as `of`.
        """
        levels = self.of(accounts.unstated)
        problems = [altered_problem(name, found) for name, found in levels.items()]
        sound = accounts.without([problem for problem in problems if problem is not None])
        known = {name: found.level for name, found in levels.items() if found.level is not None}
        return sound, {**known, **sound.stated}

    def keep(self, levels: Mapping[str, LevelInForce]) -> None:
        """Remember levels of committed records; the least recently used ones are dropped."""
        with self._lock:
            for name, level in levels.items():
                before = self._kept.pop(name, None)
                if before is not None:
                    self._size -= _size(before)
                self._kept[name] = level
                self._size += _size(level)
            while self._size > self._max_kept:
                self._size -= _size(self._kept.popitem(last=False)[1])

    def _read(self, account_ids: Collection[str]) -> dict[str, LevelInForce]:
        levels: dict[str, LevelInForce] = {}
        fallbacks: dict[str, int] = {}
        for name, record in self._ledger.last_decisions(account_ids).items():
            levels[name] = level_by(record)
            if levels[name].altered is not None:
                _LOG.error("an account is not decided on: %s", levels[name].altered)
            elif (
                isinstance(record, Record)
                and levels[name].level is None
                and "calculation" not in record.payload
            ):
                fallbacks[name] = record.recorded_at - LOOK_BACK
        if fallbacks:
            found = self._ledger.last_decisions_without(fallbacks, _FALLBACK)
            for name, record in found.items():
                before = level_by(record)
                if before.altered is not None:
                    levels[name] = levels[name]._replace(altered=before.altered)
                elif before.level is not None:
                    carried = replace(before.level, carried=True)
                    levels[name] = levels[name]._replace(level=carried)
        return levels


def _size(level: LevelInForce) -> int:
    return 1 if level.level is None else 1 + len(level.level.positions)


def altered_problem(account_id: str, found: LevelInForce) -> AccountProblem | None:
    """What is answered for an account whose newest record was altered; None for another one."""
    if found.altered is None:
        return None
    return AccountProblem(account_id, ALTERED_RECORD, f"account {account_id!r}: {found.altered}")


def level_by(record: Record | AlteredError) -> LevelInForce:
    """The level in force after the newest decision of an account, where that can be relied on."""
    if isinstance(record, Record):
        return LevelInForce(record.id, level_after(record))
    detail = "its newest record was altered and nothing can be decided after it; verify the ledger"
    return LevelInForce(None, None, f"{detail} ({record})")


def level_after(record: Record) -> PreviousAddOn | None:
    """The level in force after a recorded decision, see `level_after_payload`."""
    return level_after_payload(record.payload, record.as_of)


def level_after_payload(payload: Mapping[str, Any], as_of: int | None) -> PreviousAddOn | None:
    """The level in force after a decision by its payload; None where it carries none.

    A decision of a time before that of the level it continued from changes nothing: else deciding
    on the past would give the present the hours between once more.
    """
    decision, before = payload["decision"], payload["previous"]
    if before is not None and before["as_of"] > _decided_at(decision, as_of):
        return PreviousAddOn(**before)
    if decision["binding"] == "fallback":
        return None if before is None else PreviousAddOn(**before | {"carried": True})
    legs = payload["account"]["positions"]
    # The level was paced by the margin at the last good prices.
    valued = decision["valuations"]["last_good"] if "valuations" in decision else decision
    return PreviousAddOn(
        float(decision["add_on"]),
        _decided_at(decision, as_of),
        float(valued["initial_margin"]),
        {leg["instrument"]: leg["quantity"] for leg in legs if leg["quantity"] != 0.0},
    )


def _decided_at(decision: Mapping[str, Any], as_of: int | None) -> int:
    return parse_time(decision["as_of"]) if as_of is None else as_of
