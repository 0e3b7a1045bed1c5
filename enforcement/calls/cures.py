"""The cure ledger: what has met a call, or taken from what met it.

With the equity E, the maintenance margin MM and the add-on A of an account before its updates and
after them, both at the prices of now, and what was outstanding at the newest event of the call:

    deposit or withdrawal   E(after) - E(before)
    trade                   (MM + A)(before) - (MM + A)(after)
    level_change            A(newest event) - A(before)
    price_move              what else changed the outstanding amount

The amounts add up to the change of the outstanding amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enforcement.calls.call import Cure
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book
from market.core.arrays import Floats
from market.core.clock import format_time
from monitoring.evaluation.passes.rules_pass import RuleColumns, evaluate_rules

LEAST = 0.005
"""Smaller amounts are the rounding of others."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What the updates of an account did, settlement currency.

    Attributes
    ----------
    funds:
        Equity that came in at constant prices; below 0: that went out.
    trades:
        Requirement that was freed at constant prices; below 0: that was added.
    add_on:
        Before the updates, at the prices of now.
    """

    funds: float
    trades: float
    add_on: float

    @property
    def total(self) -> float:
        """What they met of a call."""
        return self.funds + self.trades


def credits_of(
    earlier: Mapping[str, Account],
    names: Sequence[str],
    amounts: Floats,
    columns: RuleColumns,
    view: MarketView,
    ruleset: RuleSet,
) -> dict[str, Credit]:
    """What updates did to accounts.

    Parameters
    ----------
    earlier:
        The accounts as they were before.
    names, columns:
        The accounts of a pass, and what the rules say of them after the updates.
    amounts:
        Levels in force of the accounts of `earlier`, in its order; NaN without one.
    view, ruleset:
        Market and rules of the pass.

    Returns
    -------
    By account; those that cannot be valued before or after are left out.
    """
    if not earlier:
        return {}
    row = {name: i for i, name in enumerate(names)}
    before = evaluate_rules(Book.of(list(earlier.values())), amounts, view, ruleset)
    found = {}
    for k, name in enumerate(earlier):
        i = row[name]
        level = float(before.add_on[k])
        funds = float(columns.equity[i] - before.equity[k])
        needed = float(before.maintenance_margin[k]) + level
        trades = needed - float(columns.maintenance_margin[i] + columns.add_on[i])
        if np.isfinite(funds) and np.isfinite(trades):
            found[name] = Credit(funds, trades, level)
    return found


def cures_since(
    missing_before: float,
    missing_now: float,
    add_on_before: float,
    add_on_now: float,
    credit: Credit | None,
    now: int,
) -> tuple[Cure, ...]:
    """What changed the outstanding amount of a call since its newest event.

    Parameters
    ----------
    missing_before, missing_now:
        The outstanding amount.
    add_on_before, add_on_now:
        The level that counted.
    credit:
        Of the updates since.
    now:
        Nanoseconds.
    """
    funds = trades = 0.0
    constant = add_on_now
    if credit is not None:
        funds, trades, constant = credit.funds, credit.trades, credit.add_on
    level = add_on_before - constant
    rest = missing_before - missing_now - funds - trades - level
    time = format_time(now)
    parts = (
        Cure("deposit" if funds > 0.0 else "withdrawal", funds, time),
        Cure("trade", trades, time),
        Cure("level_change", level, time),
        Cure("price_move", rest, time),
    )
    return tuple(part for part in parts if abs(part.amount) >= LEAST)
