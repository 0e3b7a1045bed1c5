"""A model pass in chunks, urgent accounts first, with decisions on the accounts that changed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import numpy as np

from decisions.book_scoring import PreviousAddOn
from decisions.decision import decide
from decisions.messages import Decision
from decisions.records import entries, shared_contents
from ledger.contents import CanonicalContent
from ledger.records import EncodedEntry
from market.accounts.book import Account
from market.core.arrays import Bools, Ints
from market.sources.http import account_message
from models.forecaster import Forecaster
from monitoring.evaluation.passes.book_cut import BookCut, positions_of
from monitoring.evaluation.passes.levels import (
    NO_BINDING,
    LevelColumns,
    binding_family,
    concatenate_levels,
)
from monitoring.evaluation.passes.model_pass import ModelPassInput, score_levels
from monitoring.evaluation.passes.second_core import PassMarket, SecondCore
from monitoring.evaluation.record.evaluation_record import EvaluationBasis, PassOutcome
from monitoring.evaluation.record.evaluation_state import level_block

CHUNK_ACCOUNTS = 1_000
"""Accounts that are scored at once; newer marks are handled between two chunks."""

REQUESTER = "monitor"
"""Who the decisions of evaluations are recorded for."""

_AHEAD = 2
"""Chunks that the second process has or waits for."""


@dataclass(frozen=True, slots=True)
class ModelJobInput:
    """What a model pass works on.

    Attributes
    ----------
    cut:
        The book.
    rows:
        Numbers of the accounts, urgent ones first.
    whole:
        Whether they are all accounts of the book.
    before:
        Levels in force of these accounts, in the order of `rows`.
    moved:
        As of `ModelPassInput`.
    continued:
        For accounts of `moved` whose level is that of a recorded decision, its id.
    changed:
        Whether the state of each account changed since its last decision, in the order of `rows`.
    basis:
        Market, rules and model.
    model:
        The model itself; None: the rule floor.
    no_model:
        Why there is none.
    """

    cut: BookCut
    rows: Ints
    whole: bool
    before: LevelColumns
    moved: Mapping[str, PreviousAddOn]
    continued: Mapping[str, str]
    changed: Bools
    basis: EvaluationBasis
    model: Forecaster | None
    no_model: str


@dataclass(slots=True)
class _Chunk:
    begin: int
    input: ModelPassInput
    pending: Future[LevelColumns] | None = None
    levels: LevelColumns | None = None


@dataclass(slots=True)
class ModelJob:
    """A model pass on its way; `advance` does a part of it at a time.

    Attributes
    ----------
    input:
        What it works on.
    second:
        Where chunks are scored beside this process; None: nowhere.
    levels:
        The new levels, in the order of the rows, once all are scored.
    decisions:
        Entries of the decisions on the accounts whose state or binding family changed.
    """

    input: ModelJobInput
    second: SecondCore | None
    levels: LevelColumns | None = None
    decisions: list[EncodedEntry] = field(default_factory=list)
    _chunks: list[_Chunk] = field(init=False)
    _open: deque[int] = field(init=False)
    _sent: list[int] = field(default_factory=list)
    _market: PassMarket | None = None
    _undecided: deque[Ints] | None = None
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        job = self.input
        self._chunks = []
        for begin in range(0, len(job.rows), CHUNK_ACCOUNTS):
            rows = job.rows[begin : begin + CHUNK_ACCOUNTS]
            book = job.cut.take(rows)
            part = job.before.take(np.arange(begin, begin + len(rows)))
            moved = {name: job.moved[name] for name in book.account_ids if name in job.moved}
            chunk = ModelPassInput(book, job.cut.sequence(rows), part, moved)
            self._chunks.append(_Chunk(begin, chunk))
        self._open = deque(range(len(self._chunks)))
        if self.second is not None and len(self._chunks) > 1:
            sha256 = None if job.model is None else job.model.bundle.sha256
            self._market = PassMarket(job.basis.snapshot, job.basis.ruleset, sha256)

    def advance(self) -> bool:
        """Score one chunk, or decide on some accounts; whether all is done.

        Raises
        ------
        MargincastError
            The model failed; begin again without it.
        """
        if self.levels is None:
            self._send()
            self._collect(wait=not self._open)
            if self._open:
                chunk = self._chunks[self._open.popleft()]
                chunk.levels = self._score(chunk.input)
            if not self._open and not self._sent:
                self.levels = concatenate_levels(
                    [chunk.levels for chunk in self._chunks if chunk.levels is not None]
                )
            return False
        if self._undecided is None:
            chosen = self._to_decide(self.levels)
            starts = range(0, len(chosen), CHUNK_ACCOUNTS)
            self._undecided = deque(chosen[start : start + CHUNK_ACCOUNTS] for start in starts)
        if self._undecided:
            self._decide(self._undecided.popleft())
        return not self._undecided

    def outcome(self) -> PassOutcome:
        """The pass as it is recorded, once it is done."""
        job, levels = self.input, self.levels
        if levels is None:
            raise RuntimeError("the model pass is not done")  # a fault of its caller
        names = [name for chunk in self._chunks for name in chunk.input.book.account_ids]
        return PassOutcome(
            "model",
            level_block(names, levels),
            job.whole,
            len(job.cut),
            len(names),
            int((levels.binding == NO_BINDING).sum()),
            time.perf_counter() - self._started,
            {name: job.continued[name] for name in names if name in job.continued},
        )

    def contents(self) -> list[tuple[str, CanonicalContent]]:
        """The shared contents that the records name."""
        return shared_contents(self.input.basis.snapshot, self.input.basis.ruleset)

    def _score(self, chunk: ModelPassInput) -> LevelColumns:
        basis = self.input.basis
        return score_levels(chunk, basis.snapshot, basis.ruleset, self.input.model)

    def _send(self) -> None:
        """Give the last chunks to the second process."""
        while self._market is not None and self.second is not None:
            if len(self._sent) >= _AHEAD or len(self._open) < 2:
                return
            place = self._open.pop()
            pending = self.second.submit(self._chunks[place].input, self._market)
            if pending is None:
                self._open.append(place)
                self.second = None
                return
            self._chunks[place].pending = pending
            self._sent.append(place)

    def _collect(self, *, wait: bool) -> None:
        """Take what the second process scored; what it lost is scored here."""
        for place in list(self._sent):
            pending = self._chunks[place].pending
            if pending is None or not (pending.done() or wait):
                continue
            self._sent.remove(place)
            try:
                self._chunks[place].levels = pending.result()
            except BrokenProcessPool:
                if self.second is not None:
                    self.second.close()
                self.second = None
                self._open.append(place)
            wait = False

    def _to_decide(self, levels: LevelColumns) -> Ints:
        """Accounts whose state changed, or what binds them, and that were scored."""
        before = binding_family(self.input.before.binding)
        now = binding_family(levels.binding)
        rebound = (before != NO_BINDING) & (now != before)
        return np.flatnonzero((rebound | self.input.changed) & (now != NO_BINDING))

    def _decide(self, chosen: Ints) -> None:
        """Make the decisions on some accounts, by their places in the rows."""
        job = self.input
        basis = job.basis
        accounts = job.cut.take(job.rows[chosen]).accounts()
        previous = self._previous(chosen, accounts)
        results = decide(
            accounts, basis.snapshot, basis.ruleset, job.model, previous, no_model=job.no_model
        )
        decided = [result for result in results if isinstance(result, Decision)]
        made, _, _ = entries(
            decided,
            {account.account_id: account_message(account) for account in accounts},
            previous,
            basis.snapshot,
            basis.ruleset,
            {account.account_id: REQUESTER for account in accounts},
        )
        # Encoded here, between marks: their parts come from msgspec with text keys.
        self.decisions += [EncodedEntry.of(entry, text_keys=True) for entry in made]

    def _previous(self, chosen: Ints, accounts: Sequence[Account]) -> dict[str, PreviousAddOn]:
        """The level in force of some accounts, with its positions, as decisions record it."""
        moved, levels = self.input.moved, self.input.before.take(chosen)
        previous: dict[str, PreviousAddOn] = {}
        for i, account in enumerate(accounts):
            amount, margin = float(levels.amount[i]), float(levels.initial_margin[i])
            if account.account_id in moved:
                previous[account.account_id] = moved[account.account_id]
            elif amount == amount:
                known = margin == margin
                previous[account.account_id] = PreviousAddOn(
                    amount,
                    int(levels.as_of[i]),
                    margin if known else None,
                    positions_of(account) if known else {},
                    bool(levels.carried[i]),
                )
        return previous
