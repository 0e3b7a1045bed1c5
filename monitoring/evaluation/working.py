"""What the process that evaluates has in memory beside the recorded levels and states."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from decisions.book_scoring import PreviousAddOn
from ledger.following import ChainHead
from ledger.store import Ledger
from market.accounts.book import Account
from market.core.arrays import Bools, Floats, Ints
from monitoring.evaluation.passes.book_cut import BookCut, positions_of
from monitoring.evaluation.passes.levels import UNKNOWN
from monitoring.evaluation.passes.model_job import ModelJob
from monitoring.evaluation.passes.rules_pass import RuleColumns
from monitoring.evaluation.record.evaluation_state import EvaluationState, restore
from monitoring.evaluation.record.recorded_accounts import read_accounts, updated_since
from monitoring.evaluation.record.recorded_levels import (
    RecordedLevel,
    levels_since,
    newest_levels,
)
from monitoring.evaluation.triggers import moved_accounts

Scored = tuple[int, str, str | None]
"""Newest close, SHA-256 of the rules and of the bundle of a model pass over all accounts."""


@dataclass(slots=True)
class Working:
    """Levels and states by the records, and what is not recorded.

    Attributes
    ----------
    state:
        Levels and states, accounts in the order of the live book.
    columns:
        What the newest rule pass found; None before the first one of this process.
    prices, market, passed, close, ruleset:
        Marks, end of the market chain, monotonic time, newest close and rules of that pass.
    scored:
        Of the newest model pass over all accounts.
    distance:
        Headroom over gross notional of each account when its level was set; NaN where unknown.
    updated:
        Accounts that were updated since the newest rule pass.
    earlier:
        Those of them that the pass knew, as they were then.
    due:
        Accounts that the next model pass has to look at.
    moved:
        Positions that the level of an account was set on, where updates may have changed them.
    continued:
        Newer levels of decisions that others recorded.
    looked:
        When decisions of others were last looked for, UTC nanoseconds.
    job:
        The model pass that is under way.
    """

    state: EvaluationState
    columns: RuleColumns | None = None
    prices: Floats = field(default_factory=lambda: np.zeros(0))
    market: ChainHead | None = None
    passed: float = 0.0
    close: int = 0
    ruleset: str = ""
    scored: Scored | None = None
    distance: Floats = field(default_factory=lambda: np.zeros(0))
    updated: set[str] = field(default_factory=set)
    earlier: dict[str, Account] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    moved: dict[str, dict[str, float]] = field(default_factory=dict)
    continued: dict[str, RecordedLevel] = field(default_factory=dict)
    looked: int = 0
    job: ModelJob | None = None

    @classmethod
    def start(cls, ledger: Ledger, cut: BookCut) -> Working:
        """Levels and states by the newest records, and what follows from them and from the book.

        The positions that a level was set on are read from the records of the account where it was
        updated since; accounts that were not scored yet, or whose state changed since, are due.

        Raises
        ------
        LedgerError
            Something cannot be read.
        """
        names = cut.names()
        state = restore(ledger).grown(names).ordered(names)
        work = cls(state, distance=np.full(len(names), np.nan))
        model = state.newest.get("model")
        if model is None:
            work.looked = time.time_ns()
            work.continued = newest_levels(ledger, names)
        else:
            work.looked = model.recorded_at
            work.scored = model.close, model.ruleset, model.model
            work.due = {name for name in updated_since(ledger, model.book) if name in state.index}
        levels = state.levels
        set_on = levels.sequence != UNKNOWN
        late = np.flatnonzero(set_on & (levels.sequence != cut.sequence(np.arange(len(cut)))))
        wanted = {names[i]: int(levels.sequence[i]) for i in late.tolist()}
        if wanted:
            found = read_accounts(ledger, cut.head, wanted.keys(), wanted).earlier
            for name, account in found.items():
                work.moved[name] = positions_of(account)
        unscored = np.flatnonzero((levels.as_of == UNKNOWN) & (levels.binding < 0))
        work.due |= wanted.keys() | state.restated.keys() | {names[i] for i in unscored.tolist()}
        return work

    @property
    def evaluated_book(self) -> ChainHead:
        """The live book that the newest recorded rule pass saw."""
        facts = self.state.newest.get("rules")
        return ChainHead() if facts is None else facts.book

    def note_updates(self, before: BookCut, changed: Collection[str]) -> None:
        """Remember the positions that levels were set on, before updates change them."""
        levels, known = self.state.levels, self.state.index
        for name in changed:
            i = known.get(name)
            if i is not None and i < len(before) and name not in self.earlier:
                self.earlier[name] = before.account(i)
            if i is None or name in self.moved or i >= len(before):
                continue
            if levels.sequence[i] == before.sequence(np.array([i]))[0]:
                self.moved[name] = before.positions(i)
        self.updated |= set(changed)
        self.due |= set(changed)

    def urgent(self) -> Ints:
        """Accounts that were urgent in the newest rule pass, and those that were updated since."""
        if self.columns is None:
            return np.zeros(0, dtype=np.int64)
        urgent = self.columns.urgent()
        near = np.zeros(len(self.state), dtype=np.bool_)
        near[: len(urgent)] = urgent
        near[[self.state.index[name] for name in self.updated]] = True
        return np.flatnonzero(near)

    def due_rows(self, distance: Floats, threshold: float) -> Bools:
        """Accounts that the next model pass has to look at, shape (N,)."""
        chosen = np.zeros(len(distance), dtype=np.bool_)
        chosen[[self.state.index[name] for name in self.due]] = True
        known = self.distance
        chosen[: len(known)] |= moved_accounts(known, distance[: len(known)], threshold)
        return chosen

    def look_at_decisions(self, ledger: Ledger) -> None:
        """Find decisions that others recorded since the last look and that are newer."""
        levels, index = self.state.levels, self.state.index

        def is_newer(name: str, as_of: int) -> bool:
            return name in index and as_of > int(levels.as_of[index[name]])

        now = time.time_ns()
        self.continued |= levels_since(ledger, self.looked, is_newer)
        self.looked = now

    def levels_apart(
        self, names: Collection[str]
    ) -> tuple[dict[str, PreviousAddOn], dict[str, str]]:
        """Levels in force that need their positions, or that are those of newer decisions.

        Returns
        -------
        The levels, and the ids of the decisions that some of them come from, by account.
        """
        levels, index = self.state.levels, self.state.index
        apart: dict[str, PreviousAddOn] = {}
        records: dict[str, str] = {}
        for name in names:
            i, newer = index[name], self.continued.get(name)
            if newer is not None and newer.level.as_of > levels.as_of[i]:
                apart[name], records[name] = newer.level, newer.record
            elif name in self.moved:
                apart[name] = PreviousAddOn(
                    float(levels.amount[i]),
                    int(levels.as_of[i]),
                    float(levels.initial_margin[i]),
                    self.moved[name],
                    bool(levels.carried[i]),
                )
        return apart, records

    def note_levels(self, job: ModelJob, now: BookCut) -> None:
        """Go on from the levels of a recorded model pass; `now` is the book now."""
        levels, cut, rows = self.state.levels, job.input.cut, job.input.rows
        names = self.state.names
        here, then = now.sequence(rows), cut.sequence(rows)
        set_on = levels.sequence[rows]
        for k in np.flatnonzero((set_on == here) | (set_on == UNKNOWN)).tolist():
            self.moved.pop(names[rows[k]], None)
        for k in np.flatnonzero((set_on != here) & (set_on == then)).tolist():
            self.moved[names[rows[k]]] = cut.positions(int(rows[k]))
        for name in job.input.continued:
            self.continued.pop(name, None)
        distance = np.full(len(self.state), np.nan)
        distance[: len(self.distance)] = self.distance
        if self.columns is not None:
            distance[rows] = self.columns.distance()[rows]
        self.distance = distance
