"""One book and market under two regimes: the requirements of each account, and their change.

No add-on is in force before: levels are unpaced, as on a book that is decided on for the first
time. An account is called where something is missing to its add-on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decisions.book_scoring import BookScores, DecisionBasis, score_book
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import BINDINGS
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.arrays import Bools, Floats
from market.core.errors import DataError
from models.forecaster import Forecaster

QUANTILES = {
    "q01": 0.01,
    "q05": 0.05,
    "q25": 0.25,
    "median": 0.5,
    "q75": 0.75,
    "q95": 0.95,
    "q99": 0.99,
}

SAMPLED_ACCOUNTS = 2_000
"""Accounts of the reference sample that regimes are compared on."""

WORST = 20
"""Accounts that a report names."""


@dataclass(frozen=True, slots=True)
class Regime:
    """What decides on accounts: rules, and a model or None."""

    ruleset: RuleSet
    model: Forecaster | None

    def describe(self) -> dict[str, str | None]:
        """Rule set and bundle, for reports."""
        return {
            "ruleset": self.ruleset.name,
            "version": self.ruleset.version,
            "ruleset_sha256": self.ruleset.sha256,
            "bundle": None if self.model is None else self.model.bundle.sha256,
        }


@dataclass(frozen=True, slots=True)
class RegimeComparison:
    """The N accounts that both regimes decide on; settlement currency, arrays of shape (N,).

    Attributes
    ----------
    account_ids:
        Their ids.
    left_out:
        Accounts of the book that one of the regimes cannot decide on.
    before, after:
        Total requirement, maintenance margin plus add-on.
    deposit_before, deposit_after:
        What is missing.
    binding_before, binding_after:
        What decides the level, see `margin.add_on.bounds.BINDINGS`.
    coins:
        Requirement of both regimes by coin, each account's spread over its positions by their
        absolute notional.
    """

    account_ids: list[str]
    left_out: int
    before: Floats
    after: Floats
    deposit_before: Floats
    deposit_after: Floats
    binding_before: list[str]
    binding_after: list[str]
    coins: dict[str, tuple[float, float]]

    @property
    def change(self) -> float | None:
        """Total requirement after over that before, minus 1; None where there was none."""
        total = float(self.before.sum())
        return float(self.after.sum()) / total - 1.0 if total > 0.0 else None

    @property
    def newly_called(self) -> Bools:
        """Accounts that are called at once, and are not under the incumbent."""
        called: Bools = (self.deposit_after > 0.0) & (self.deposit_before == 0.0)
        return called

    @property
    def no_longer_called(self) -> Bools:
        """The reverse."""
        ended: Bools = (self.deposit_before > 0.0) & (self.deposit_after == 0.0)
        return ended

    def to_dict(self) -> dict[str, Any]:
        """Plain values: sums, distribution, calls, bindings, coins and the worst accounts."""
        change = self.after - self.before
        required = self.before > 0.0
        relative = change[required] / self.before[required]
        pairs = Counter(zip(self.binding_before, self.binding_after, strict=True))
        return {
            "accounts": len(self.account_ids),
            "left_out": self.left_out,
            "changed": int((change != 0.0).sum()),
            "requirement": {
                "before": float(self.before.sum()),
                "after": float(self.after.sum()),
                "change": float(change.sum()),
                "relative": self.change,
            },
            "change_by_account": _distribution(change),
            "relative_change_by_account": _distribution(relative),
            "calls": {
                "before": int((self.deposit_before > 0.0).sum()),
                "after": int((self.deposit_after > 0.0).sum()),
                "new": int(self.newly_called.sum()),
                "ended": int(self.no_longer_called.sum()),
                "deposit_before": float(self.deposit_before.sum()),
                "deposit_after": float(self.deposit_after.sum()),
                "deposit_of_new": float(self.deposit_after[self.newly_called].sum()),
            },
            "bindings": [
                {"before": old, "after": new, "accounts": count, "change": self._sum(old, new)}
                for (old, new), count in sorted(pairs.items())
            ],
            "coins": [
                {"coin": coin, "before": old, "after": new, "change": new - old}
                for coin, (old, new) in sorted(self.coins.items())
            ],
            "worst": [self.account(n) for n in np.argsort(-change, kind="stable")[:WORST].tolist()],
        }

    def account(self, n: int) -> dict[str, Any]:
        """The figures of one account by its index."""
        return {
            "account_id": self.account_ids[n],
            "before": float(self.before[n]),
            "after": float(self.after[n]),
            "change": float(self.after[n] - self.before[n]),
            "binding_before": self.binding_before[n],
            "binding_after": self.binding_after[n],
            "deposit_before": float(self.deposit_before[n]),
            "deposit_after": float(self.deposit_after[n]),
        }

    def _sum(self, old: str, new: str) -> float:
        chosen = [
            n
            for n, pair in enumerate(zip(self.binding_before, self.binding_after, strict=True))
            if pair == (old, new)
        ]
        return float((self.after[chosen] - self.before[chosen]).sum())


def compare_regimes(
    accounts: Sequence[Account], snapshot: MarketSnapshot, incumbent: Regime, candidate: Regime
) -> RegimeComparison:
    """Decide on the same accounts and market under two regimes.

    Parameters
    ----------
    accounts:
        The book.
    snapshot:
        The market.
    incumbent, candidate:
        What is in force, and what is to go live.

    Raises
    ------
    DataError
        No account can be decided on by both.
    """
    book = Book.of(accounts)
    scores = [
        score_book(book, DecisionBasis(snapshot, regime.ruleset, regime.model, {}))
        for regime in (incumbent, candidate)
    ]
    decided = np.logical_and.reduce([_decided(each) for each in scores])
    if not decided.any():
        raise DataError(
            f"none of {len(book)} accounts can be decided on by both regimes; check the accounts "
            "and the marks of their instruments"
        )
    before, after = scores
    kept = np.flatnonzero(decided).tolist()
    return RegimeComparison(
        account_ids=[book.account_ids[i] for i in kept],
        left_out=len(book) - len(kept),
        before=before.total_requirement[kept],
        after=after.total_requirement[kept],
        deposit_before=before.deposit[kept],
        deposit_after=after.deposit[kept],
        binding_before=[BINDINGS[code] for code in before.add_on.binding[kept].tolist()],
        binding_after=[BINDINGS[code] for code in after.add_on.binding[kept].tolist()],
        coins=_by_coin(scores, decided, snapshot.features.symbols),
    )


def _decided(scores: BookScores) -> Bools:
    known: Bools = np.isfinite(scores.total_requirement) & np.isfinite(scores.deposit)
    known[list(scores.requirement.problems)] = False
    return known


def _by_coin(
    scores: Sequence[BookScores], decided: Bools, symbols: Sequence[str]
) -> dict[str, tuple[float, float]]:
    requirement = scores[0].requirement
    owner = np.repeat(np.arange(len(decided)), np.diff(requirement.leg_start))
    legs = np.flatnonzero(decided[owner])
    owner, size = owner[legs], np.abs(requirement.leg_notional[legs])
    gross = np.bincount(owner, size, len(decided))[owner]
    share = np.divide(size, gross, out=np.zeros(len(size)), where=gross > 0.0)
    symbol = requirement.leg_symbol[legs]
    before, after = (
        np.bincount(symbol, share * each.total_requirement[owner], len(symbols)) for each in scores
    )
    return {
        symbols[s]: (float(before[s]), float(after[s]))
        for s in np.flatnonzero(np.bincount(symbol, minlength=len(symbols))).tolist()
    }


def _distribution(values: Floats) -> dict[str, float] | None:
    """Smallest, largest, mean and `QUANTILES`; None without values."""
    if not len(values):
        return None
    quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
    return {
        "least": float(values.min()),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "most": float(values.max()),
        "mean": float(values.mean()),
    }
