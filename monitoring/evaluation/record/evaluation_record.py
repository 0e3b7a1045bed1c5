"""Append evaluations and the decisions that come of them: under the lease, all or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from decisions.records import CALCULATION, fingerprint, shared_contents
from features.state.snapshot import MarketSnapshot
from ledger import contents as content_store
from ledger.chain import extend_in_rounds
from ledger.contents import CanonicalContent
from ledger.decisions import newest_ids
from ledger.following import ChainHead, ChainMovedError, SharedChain
from ledger.records import EncodedEntry, Entry, Record
from ledger.schema import lock, records
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from monitoring.evaluation.lease import Lease
from monitoring.evaluation.record.book_totals import TOTALS_CHAIN, totals_entry
from monitoring.evaluation.record.evaluation_state import CHAIN, EVALUATION, EvaluationState, Pass

Write = Callable[[Connection, int, Collection[str]], None]
"""Writes in the transaction of an evaluation: with its number, and the contents that are there."""

DECISION_CHAIN = "monitoring-decisions"
"""Chain of the decisions that evaluations caused."""


@dataclass(frozen=True, slots=True)
class EvaluationBasis:
    """What a pass rests on besides book, levels and states.

    Attributes
    ----------
    snapshot, ruleset:
        Market and rules.
    model:
        SHA-256 of the bundle; None without a model.
    market, accounts:
        What the market and the book contain of their chains.
    trigger:
        Why the pass was made: start, bar, mark, accounts, timer, rules or model.
    after:
        Number of the record of the chain whose levels and states it starts from.
    """

    snapshot: MarketSnapshot
    ruleset: RuleSet
    model: str | None
    market: ChainHead
    accounts: ChainHead
    trigger: str
    after: int

    @property
    def event(self) -> tuple[str, int]:
        """What caused the pass: a chain, and the number of its newest record."""
        if self.trigger == "accounts":
            return "accounts", self.accounts.seq
        return "market", self.market.seq


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """What a pass found.

    Attributes
    ----------
    which:
        The pass.
    block:
        Its columns, of `evaluation_state.level_block` or `state_block`.
    whole:
        Whether they are of all accounts.
    accounts:
        How many accounts the book has.
    evaluated, problems:
        How many were evaluated, and how many of them had no figures.
    seconds:
        How long it took.
    continued:
        For accounts whose level continues from a recorded decision, its id.
    enforcement:
        Enforcement's part in the states; None: they moved by the rule set's life cycle alone.
    """

    which: Pass
    block: Mapping[str, Any]
    whole: bool
    accounts: int
    evaluated: int
    problems: int
    seconds: float
    continued: Mapping[str, str] = field(default_factory=dict)
    enforcement: Mapping[str, Any] | None = None


def evaluation_entry(outcome: PassOutcome, basis: EvaluationBasis, state: EvaluationState) -> Entry:
    """A pass as it is recorded after `state`."""
    # A model pass looks at the changes of states up to `after`: later ones are read with it.
    first = basis.after + 1 if outcome.which == "model" else state.head.seq + 1
    base = {**state.base, outcome.which: first} if outcome.whole else dict(state.base)
    shared = shared_contents(basis.snapshot, basis.ruleset)
    payload = {
        "pass": outcome.which,
        "trigger": basis.trigger,
        "calculation": CALCULATION,
        "fingerprint": fingerprint(),
        "contents": {f"{kind}_sha256": content.sha256 for kind, content in shared},
        "model": basis.model,
        "close": int(basis.snapshot.features.closes[0]),
        "market": {"seq": basis.market.seq, "hash": basis.market.hash},
        "book": {"seq": basis.accounts.seq, "hash": basis.accounts.hash},
        "after": basis.after,
        "base": base,
        "accounts": outcome.accounts,
        "whole": outcome.whole,
        "evaluated": outcome.evaluated,
        "problems": outcome.problems,
        "seconds": outcome.seconds,
        "continued": dict(outcome.continued),
        "columns": dict(outcome.block),
    }
    if outcome.enforcement is not None:
        payload["enforcement"] = dict(outcome.enforcement)
    return Entry(kind=EVALUATION, payload=payload, as_of=basis.snapshot.as_of)


class EvaluationLog:
    """The chain of evaluations, to append to under a lease.

    Parameters
    ----------
    ledger:
        Where it is.
    lease:
        Its token is checked in the transaction that appends.
    """

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger, self._lease = ledger, lease
        self.chain = SharedChain(ledger, CHAIN)

    def append(
        self,
        head: ChainHead,
        entry: Entry,
        contents: Sequence[tuple[str, CanonicalContent]],
        decisions: Sequence[EncodedEntry] = (),
        within: Write | None = None,
        totals: Mapping[str, Any] | None = None,
    ) -> Record:
        """Record an evaluation and what comes of it: all or none.

        Parameters
        ----------
        head:
            Where the chain has to end.
        entry, contents:
            The evaluation and the shared contents that it names.
        decisions:
            For the chain of decisions.
        within:
            Records more in the same transaction.
        totals:
            Of the book, see `book_totals.totals_of`; None: none are recorded.

        Raises
        ------
        LeaseLostError
            Another process evaluates the book.
        ChainMovedError
            The chain does not end at `head`.
        LedgerError
            Nothing was recorded; or, of an `UnknownOutcomeError`, it may be.
        """
        encoded = EncodedEntry.of(entry)
        ids = (decision.entry.account_id for decision in decisions)
        names = [name for name in ids if name is not None]
        with self._ledger.transaction() as connection:
            if decisions:
                lock(connection, "decisions")
            lock(connection, f"chain:{CHAIN}")
            self._lease.check(connection)
            now = _head(connection)
            if now != head:
                raise ChainMovedError(
                    f"chain {CHAIN!r} ends at record {now.seq} and not at {head.seq}: another "
                    "process evaluated the book meanwhile; nothing was recorded"
                )
            stored = content_store.put(connection, contents)
            rows = extend_in_rounds(connection, CHAIN, [[encoded]], 0, stored)
            newest = newest_ids(connection, names)
            after = max((recorded_at for _, recorded_at in newest.values()), default=0)
            extend_in_rounds(connection, DECISION_CHAIN, [decisions], after, stored)
            if totals is not None:
                beside = EncodedEntry.of(totals_entry(totals, rows[0]["seq"], entry.as_of))
                extend_in_rounds(connection, TOTALS_CHAIN, [[beside]])
            if within is not None:
                within(connection, rows[0]["seq"], stored)
        return Record(**rows[0], payload=entry.payload)


def _head(connection: Connection) -> ChainHead:
    query = (
        select(records.c.seq, records.c.hash)
        .where(records.c.chain == CHAIN)
        .order_by(records.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return ChainHead() if row is None else ChainHead(row.seq, row.hash.hex())
