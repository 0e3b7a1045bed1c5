"""Shadow scoring: the challenger scores what the champion decided on, off the response path.

A thread of its own takes accounts after their decisions are recorded, scores them with the bundle
of the pointer file ``challenger`` on the same market, rules and add-ons in force, and records the
scores under the ids of the decisions. Nothing of it is answered or changes a level. It is an
observation: a queue that is full drops accounts, and a process that is killed loses those that
wait; both are counted or bounded. `pipelines.registry.shadow_review` compares the two models once
labels have matured.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from decisions.book_scoring import BookScores, DecisionBasis, PreviousAddOn, score_book
from features.state.snapshot import MarketSnapshot
from ledger.chain import extend
from ledger.records import Entry
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.errors import MargincastError
from models.forecaster import Forecaster
from monitoring.champion import Champion, ChampionWatch

SHADOW = "shadow"
"""Kind of the ledger entries that hold shadow scores."""

MAX_WAITING = 20_000
"""Most accounts that wait; further ones are dropped and counted."""

MAX_BATCH = 1_000
"""Accounts that are recorded in one transaction, but for a single call with more."""

PAUSE_SECONDS = 0.5
"""Wait before accounts are scored, so that those of many calls are scored and recorded together."""

ShadowResult = Literal["recorded", "dropped", "failed"]

_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class ShadowCall:
    """Accounts that were decided on together.

    Attributes
    ----------
    decision_ids:
        Of the recorded decisions, in the order of the accounts.
    accounts:
        As they were decided on.
    snapshot, ruleset, previous:
        Market, rules and add-ons in force of the decisions.
    """

    decision_ids: Sequence[str]
    accounts: Sequence[Account]
    snapshot: MarketSnapshot
    ruleset: RuleSet
    previous: Mapping[str, PreviousAddOn]


class ShadowScorer:
    """Scores accounts with the challenger in a thread of its own.

    Parameters
    ----------
    ledger:
        Where scores are recorded, in the chain ``<chain of the ledger>-shadow``.
    challenger:
        Follows the pointer file of the challenger.
    on_result:
        Called with what became of how many accounts, from either thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        challenger: ChampionWatch,
        on_result: Callable[[ShadowResult, int], object] = lambda result, accounts: None,
    ) -> None:
        self._ledger, self._challenger, self._on_result = ledger, challenger, on_result
        self._calls: deque[ShadowCall] = deque()
        self._waiting = 0
        self._active = challenger.current().model is not None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def active(self) -> bool:
        """Whether there is a challenger to score with."""
        return self._active

    def challenger(self) -> Champion:
        """The challenger now, or why there is none."""
        return self._challenger.current()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, call: ShadowCall) -> None:
        """Take accounts to score; returns at once, and does nothing without a challenger."""
        if not self._active or not call.accounts:
            return
        count = len(call.accounts)
        with self._changed:
            fits = self._waiting == 0 or self._waiting + count <= MAX_WAITING
            if fits:
                self._calls.append(call)
                self._waiting += count
                self._changed.notify()
        if not fits:
            self._on_result("dropped", count)

    def close(self) -> None:
        """Score what waits, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._calls and not self._stopping:
                    self._changed.wait(timeout=1.0)
                if self._calls and not self._stopping:
                    self._changed.wait_for(lambda: self._stopping, timeout=PAUSE_SECONDS)
                calls = self._take()
                ended = self._stopping and not calls
            if ended:
                return
            try:
                # Here, not in `submit`: it looks at the pointer file.
                challenger = self._challenger.current()
                self._active = challenger.model is not None
                if calls and challenger.model is not None:
                    self._score(calls, challenger.model)
            except Exception:  # noqa: BLE001 - else the thread would end silently
                count = sum(len(call.accounts) for call in calls)
                _LOG.exception("%d shadow scores are lost to an unexpected error", count)
                if count:
                    self._on_result("failed", count)

    def _take(self) -> list[ShadowCall]:
        """Calls of about `MAX_BATCH` accounts, the oldest first."""
        taken: list[ShadowCall] = []
        accounts = 0
        while self._calls and (not taken or accounts + len(self._calls[0].accounts) <= MAX_BATCH):
            taken.append(self._calls.popleft())
            accounts += len(taken[-1].accounts)
        self._waiting -= accounts
        return taken

    def _score(self, calls: Sequence[ShadowCall], model: Forecaster) -> None:
        count = sum(len(call.accounts) for call in calls)
        try:
            entries = [_entry(call, model) for call in calls]
            with self._ledger.transaction() as connection:
                extend(connection, f"{self._ledger.chain}-shadow", entries)
        except MargincastError as error:
            _LOG.warning("%d shadow scores are lost: %s", count, error)
            self._on_result("failed", count)
        else:
            self._on_result("recorded", count)


def _entry(call: ShadowCall, model: Forecaster) -> Entry:
    basis = DecisionBasis(call.snapshot, call.ruleset, model, call.previous)
    scores = score_book(Book.of(call.accounts), basis)
    payload: dict[str, Any] = {
        "challenger": model.bundle.sha256,
        "horizons": list(model.horizons),
        "scores": _rows(call.decision_ids, scores),
    }
    return Entry(SHADOW, payload, as_of=call.snapshot.as_of)


def _rows(decision_ids: Sequence[str], scores: BookScores) -> list[list[Any]]:
    """Decision id, probabilities (None without a forecast) and add-on of each account."""
    rows = zip(
        decision_ids,
        scores.forecast.probability.tolist(),
        scores.forecast.unavailable_reason,
        scores.add_on.level.tolist(),
        strict=True,
    )
    return [
        [decision_id, probability if reason is None else None, add_on]
        for decision_id, probability, reason, add_on in rows
    ]
