"""The model pass: new add-on levels of accounts, from the levels that are in force.

A pure function: the levels are those of `decisions.book_scoring.score_book` to the last bit, of
any part of a book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from decisions.book_scoring import DecisionBasis, PreviousAddOn, score_book
from decisions.decision import unanswerable
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import BINDINGS
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.core.arrays import Ints
from models.forecaster import Forecaster
from monitoring.evaluation.passes.levels import NO_BINDING, UNKNOWN, LevelColumns

_FALLBACK = BINDINGS.index("fallback")


@dataclass(frozen=True, slots=True)
class ModelPassInput:
    """Accounts of a model pass.

    Attributes
    ----------
    book:
        The accounts.
    sequence:
        Sequence number of each, shape (N,).
    before:
        The levels in force.
    moved:
        The level in force, with its positions, of the accounts whose updates since it was set may
        have changed them, and of those that continue from a recorded decision.
    """

    book: Book
    sequence: Ints
    before: LevelColumns
    moved: Mapping[str, PreviousAddOn]

    def previous(self) -> dict[str, PreviousAddOn]:
        """The level in force of each account that has one.

        Of an account that is as it was, positions and initial margin are left out: they say no
        more than that it is.
        """
        before = self.before
        levels = {
            name: PreviousAddOn(amount, as_of, carried=carried)
            for name, amount, as_of, carried in zip(
                self.book.account_ids,
                before.amount.tolist(),
                before.as_of.tolist(),
                before.carried.tolist(),
                strict=True,
            )
            if amount == amount
        }
        return levels | {name: self.moved[name] for name in levels.keys() & self.moved.keys()}


def score_levels(
    accounts: ModelPassInput,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    model: Forecaster | None,
) -> LevelColumns:
    """The levels after a pass, as `decisions.levels_in_force.level_after_payload` of a decision.

    A fallback sets no level and carries the one before; an account with a problem keeps it as it
    is. A level of a later time than the snapshot stays.

    Parameters
    ----------
    accounts:
        The accounts and their levels.
    snapshot, ruleset, model:
        What the pass rests on; without a model every account is a fallback.
    """
    book, previous = accounts.book, accounts.previous()
    scores = score_book(book, DecisionBasis(snapshot, ruleset, model, previous), "no model")
    failed = np.zeros(len(book), dtype=np.bool_)
    failed[list(unanswerable(scores))] = True
    before = continued_levels(accounts)
    fallback = scores.add_on.binding == _FALLBACK
    sets = ~failed & ~fallback & (before.as_of <= snapshot.as_of)
    later = before.as_of > snapshot.as_of
    probability = scores.forecast.probability.astype(np.float32)
    probability[failed] = np.nan
    return LevelColumns(
        np.where(sets, scores.add_on.level, before.amount),
        np.where(sets, snapshot.as_of, before.as_of),
        np.where(sets, scores.requirement.initial_margin, before.initial_margin),
        np.where(sets, False, before.carried | (fallback & ~failed & ~later & (before.as_of >= 0))),
        np.where(sets, accounts.sequence, before.sequence),
        np.where(failed, np.int8(NO_BINDING), scores.add_on.binding),
        probability,
    )


def continued_levels(accounts: ModelPassInput) -> LevelColumns:
    """The levels in force of the accounts, with those of newer recorded decisions in their place.

    A decision knows other positions than the live book: its level has no sequence number.
    """
    before = accounts.before
    rows, columns = [], []
    for i, name in enumerate(accounts.book.account_ids):
        level = accounts.moved.get(name)
        if level is not None and level.as_of != before.as_of[i]:
            rows.append(i)
            columns.append(level)
    if not rows:
        return before
    margin = [np.nan if c.initial_margin is None else c.initial_margin for c in columns]
    taken = LevelColumns(
        np.array([level.amount for level in columns]),
        np.array([level.as_of for level in columns], dtype=np.int64),
        np.array(margin),
        np.array([level.carried for level in columns]),
        np.full(len(rows), UNKNOWN, dtype=np.int64),
        before.binding[rows],
        before.probability[rows],
    )
    return before.put(np.array(rows), taken)
