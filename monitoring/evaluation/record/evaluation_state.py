"""Levels and life-cycle states of a live book by its evaluation records.

The records are the only way in which a state moves: of the process that wrote them, of one that
takes over or starts again, of the processes that answer for it, and of a replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ledger.following import ChainHead, SharedChain
from ledger.records import Record
from ledger.store import Ledger
from margin.life_cycle.states import States
from market.core.arrays import Bools
from market.core.errors import AlteredError
from monitoring.evaluation.passes.levels import LevelColumns
from monitoring.evaluation.record.column_codec import (
    decode_columns,
    decode_names,
    encode_columns,
    encode_names,
)

EVALUATION = "evaluation"
"""Kind of the ledger entries with the levels and states of the live book."""

CHAIN = "monitoring"
"""Their chain."""

Pass = Literal["rules", "model"]
"""A rule pass moves states, a model pass moves levels."""


@dataclass(frozen=True, slots=True)
class EvaluationState:
    """The live book's levels and states after some records; never changed, only followed.

    Attributes
    ----------
    names:
        Ids of the accounts, in the order of the columns.
    levels, states:
        Of these accounts.
    head:
        The newest record that is in it.
    base:
        Number of the record from which on the levels, and the states, of all accounts are found,
        by the pass that moves them; 0 before any.
    newest:
        The newest record of each pass, without its columns.
    restated:
        Accounts whose state changed and that no model pass looked at since: the number of the
        record that changed it.
    index:
        Place of each account in the columns.
    """

    names: tuple[str, ...] = ()
    levels: LevelColumns = field(default_factory=lambda: LevelColumns.none(0, 0))
    states: States = field(default_factory=lambda: States.healthy(0))
    head: ChainHead = field(default_factory=ChainHead)
    base: Mapping[Pass, int] = field(default_factory=lambda: {"rules": 0, "model": 0})
    newest: Mapping[Pass, EvaluationFacts] = field(default_factory=dict)
    restated: Mapping[str, int] = field(default_factory=dict)
    index: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def evaluated_at(self) -> int | None:
        """Time of the newest evaluation, nanoseconds; None before any."""
        return max((facts.as_of for facts in self.newest.values()), default=None)

    def grown(self, names: Iterable[str]) -> EvaluationState:
        """The same with the accounts that it lacks behind the others: healthy, without a level."""
        new = [name for name in names if name not in self.index]
        if not new:
            return self
        known = (*self.names, *new)
        return replace(
            self,
            names=known,
            index={name: i for i, name in enumerate(known)},
            levels=self.levels.grown(len(known)),
            states=self.states.grown(len(known)),
        )

    def ordered(self, names: Sequence[str]) -> EvaluationState:
        """The same with some of the accounts, or all, in another order."""
        rows = np.array([self.index[name] for name in names], dtype=np.int64)
        return replace(
            self,
            names=tuple(names),
            index={name: i for i, name in enumerate(names)},
            levels=self.levels.take(rows),
            states=self.states.take(rows),
        )

    def after(self, record: Record) -> EvaluationState:
        """The state after one more record of the chain.

        Raises
        ------
        AlteredError
            The record cannot be read.
        """
        head = ChainHead.of(record)
        if record.kind != EVALUATION:
            return replace(self, head=head)
        payload, as_of = record.payload, record.as_of or 0
        try:
            which: Pass = payload["pass"]
            columns = decode_columns(payload["columns"])
            names = decode_names(columns.pop("names"))
            grown = self.grown(names)
            index = grown.index
            rows = np.array([index[name] for name in names], dtype=np.int64)
            restated = dict(self.restated)
            if which == "model":
                levels = grown.levels.put(rows, LevelColumns.of(columns))
                grown = replace(grown, levels=levels)
                for name in restated.keys() & set(names):
                    if restated[name] <= payload["after"]:
                        del restated[name]
            else:
                restated |= {
                    name: record.seq
                    for name, changed in zip(names, columns["changed"].tolist(), strict=True)
                    if changed
                }
                given = States.of_columns(columns, as_of)
                grown = replace(grown, states=grown.states.put(rows, given))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise AlteredError(
                f"evaluation record {record.id!r} cannot be applied ({error!r}); verify the ledger"
            ) from error
        facts = EvaluationFacts.of(record)
        return replace(
            grown,
            head=head,
            base=dict(payload["base"]),
            newest={**self.newest, which: facts},
            restated=restated,
        )

    def advanced(self, chain: SharedChain) -> EvaluationState:
        """The state after all that is recorded; raises as `SharedChain.after`."""
        state = self
        for record in chain.after(self.head):
            state = state.after(record)
        return state


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """A record of an evaluation without its columns.

    Attributes
    ----------
    id, as_of, recorded_at:
        Of the record.
    close:
        Newest close of the market that it rests on, nanoseconds.
    model, ruleset:
        SHA-256 of the bundle, None without a model, and of the rules.
    seconds:
        How long the pass took.
    accounts, problems:
        How many accounts it evaluated, and how many of them had no figures.
    market, book:
        What market and book contained of their chains.
    """

    id: str
    as_of: int
    recorded_at: int
    close: int
    model: str | None
    ruleset: str
    seconds: float
    accounts: int
    problems: int
    market: ChainHead
    book: ChainHead

    @classmethod
    def of(cls, record: Record) -> EvaluationFacts:
        """The facts of a record."""
        payload = record.payload
        return cls(
            record.id,
            record.as_of or 0,
            record.recorded_at,
            int(payload["close"]),
            payload["model"],
            str(payload["contents"]["ruleset_sha256"]),
            float(payload["seconds"]),
            int(payload["evaluated"]),
            int(payload["problems"]),
            *(ChainHead(int(payload[k]["seq"]), payload[k]["hash"]) for k in ("market", "book")),
        )


def restore(ledger: Ledger, until: int | None = None) -> EvaluationState:
    """The state by the newest records, or by those up to a number of the chain.

    It reads from the newest record that holds all levels or all states on, whichever is older.

    Raises
    ------
    LedgerError
        The records cannot be read or were altered.
    """
    chain = SharedChain(ledger, CHAIN)
    newest = chain.last(EVALUATION, chain.head() if until is None else ChainHead(until))
    if newest is None:
        return EvaluationState()
    base = newest.payload["base"]
    first = min(int(base[which]) for which in ("rules", "model"))
    state = EvaluationState(head=chain.before(first) if first > 0 else ChainHead())
    for record in chain.after(state.head):
        if record.seq > newest.seq:
            break
        state = state.after(record)
    return state


def evaluated_market(ledger: Ledger) -> ChainHead | None:
    """The market chain as the newest evaluation saw it; None before any.

    Raises
    ------
    LedgerError
        The records cannot be read.
    """
    chain = SharedChain(ledger, CHAIN)
    newest = chain.last(EVALUATION, chain.head())
    return None if newest is None else EvaluationFacts.of(newest).market


def level_block(names: Sequence[str], levels: LevelColumns) -> dict[str, Any]:
    """Levels of some accounts as they are recorded."""
    return encode_columns({"names": encode_names(names), **levels.columns()})


def state_block(names: Sequence[str], states: States, changed: Bools) -> dict[str, Any]:
    """States of some accounts as they are recorded, and which of them the pass changed."""
    columns: dict[str, Any] = {"names": encode_names(names), "changed": changed}
    return encode_columns(columns | states.columns())
