"""The live book as another process than the monitor sees it: what it holds, and how it stands.

Requirement and headroom are computed here at the newest market; levels, bindings, probabilities
and states are those of the newest evaluation records. Nothing is recorded.
"""

from __future__ import annotations

import operator
import threading
from dataclasses import dataclass
from functools import cached_property

from decisions.book_scoring import PreviousAddOn
from features.state.snapshot import MarketSnapshot
from ledger.following import ChainHead, SharedChain
from ledger.store import Ledger
from margin.add_on.bounds import deposit_to_meet
from margin.rules.ruleset import RuleSet
from market.core.arrays import Floats
from market.core.clock import SECOND
from monitoring.book.book_account import BookAccount
from monitoring.book.live_book import LiveBook
from monitoring.evaluation.passes.book_cut import BookCut, positions_of
from monitoring.evaluation.passes.rules_pass import RuleColumns, evaluate_book
from monitoring.evaluation.record.evaluation_state import CHAIN, EvaluationState, restore

KEPT_SECONDS = 1.0
"""A view is given out again for this long where nothing but the time has changed."""


@dataclass(frozen=True)
class EvaluatedBook:
    """All accounts of the live book at one time.

    Attributes
    ----------
    cut:
        The accounts.
    state:
        Levels and states, in the order of the accounts.
    columns:
        Requirement and level in force.
    as_of:
        Time of the market, nanoseconds.
    """

    cut: BookCut
    state: EvaluationState
    columns: RuleColumns
    as_of: int

    @cached_property
    def deposit(self) -> Floats:
        """What each account lacks to its level, whole cents, shape (N,)."""
        return deposit_to_meet(self.columns.add_on, self.columns.headroom)


class BookView:
    """Follows the live book and its evaluations. Safe to use from several threads.

    Parameters
    ----------
    ledger:
        Where they are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._chain = SharedChain(ledger, CHAIN)
        self._book = LiveBook(ledger)
        self._lock = threading.Lock()
        self._state: EvaluationState | None = None
        self._newest: tuple[tuple[object, ...], tuple[ChainHead, ...], EvaluatedBook] | None = None

    @property
    def state(self) -> EvaluationState | None:
        """Levels and states as they were followed last; None before the first time."""
        return self._state

    def __len__(self) -> int:
        return len(self._book)

    def account(self, account_id: str) -> BookAccount | None:
        """An account as it stands; None where the book has none of this id."""
        return self._book.find(account_id)

    def level(self, account_id: str) -> PreviousAddOn | None:
        """The level of an account by the newest evaluation that was followed.

        None without one, and where the account was updated since: the level says nothing of
        positions that are not known here any more.
        """
        state, account = self._state, self._book.find(account_id)
        row = None if state is None else state.index.get(account_id)
        if state is None or row is None or account is None:
            return None
        levels = state.levels
        amount, margin = float(levels.amount[row]), float(levels.initial_margin[row])
        if amount != amount or margin != margin or levels.sequence[row] != account.sequence:
            return None
        as_of, carried = int(levels.as_of[row]), bool(levels.carried[row])
        return PreviousAddOn(amount, as_of, margin, positions_of(account.account), carried)

    def follow(self) -> None:
        """Apply what was recorded since.

        Raises
        ------
        LedgerError
            Something cannot be read; what was applied stays.
        """
        with self._lock:
            self._follow()

    def _follow(self) -> tuple[BookCut, EvaluationState]:
        # The evaluations first: every account that they know is then in the book.
        state = self._state
        state = restore(self._ledger) if state is None else state.advanced(self._chain)
        self._book.catch_up()
        cut = BookCut.of(self._book)
        if len(state) != len(cut) or self._state is None:
            names = cut.names()
            state = state.grown(names).ordered(names)
        self._state = state
        return cut, state

    def at(self, snapshot: MarketSnapshot, ruleset: RuleSet) -> EvaluatedBook:
        """The book at the newest market; raises as `follow`."""
        with self._lock:
            cut, state = self._follow()
            parts = (*snapshot.recorded_parts, snapshot.quotes, ruleset)
            heads = cut.head, state.head
            if self._newest is not None:
                known_parts, known_heads, book = self._newest
                same = known_heads == heads and all(map(operator.is_, known_parts, parts))
                if same and abs(snapshot.as_of - book.as_of) < KEPT_SECONDS * SECOND:
                    return book
            columns = evaluate_book(cut, state.levels.amount, snapshot.view(), ruleset)
            book = EvaluatedBook(cut, state, columns, snapshot.as_of)
            self._newest = parts, heads, book
            return book
