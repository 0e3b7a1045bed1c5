"""The whole add-on over history: model level, rule floor, cap, and pacing from hour to hour.

The same functions as in decisions bound each level against the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.book_scoring import CARRIED_HOURS
from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import add_on_cap, bound_add_on, in_stress
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import AddOnRules, RuleSet
from market.bars.history import MarketHistory
from market.core.clock import HOUR
from training.labels.account_panel import AccountPanel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RuleBounds:
    """Bounds of the add-on by the rules alone at N account-times, settlement currency.

    Attributes
    ----------
    floor, cap:
        F and C, shape (N,).
    stress:
        Whether the rule for stress forbids a release, shape (N,).
    """

    floor: Floats
    cap: Floats
    stress: npt.NDArray[np.bool_]


def rule_bounds(
    times: AccountPanel, history: MarketHistory, market: MarketFeatures, ruleset: RuleSet
) -> RuleBounds:
    """Floor, cap and state at each account-time, by the functions that decisions use."""
    floor = np.empty(len(times))
    stress = np.empty(len(times), dtype=np.bool_)
    for row, index in _by_row(times.rows.row):
        as_of = int(market.closes[row])
        snapshot = MarketSnapshot.of_history(history, market, as_of)
        figures = times.figures.take(index)
        floors = active_floors(figures, snapshot.view(), ruleset.floors)
        floor[index] = largest_floor(floors, figures)
        stress[index] = in_stress(snapshot.volatility_ratio(), ruleset.add_on)
    return RuleBounds(floor, add_on_cap(times.initial_margin, ruleset.add_on), stress)


class AddOnWalk:
    """Walks accounts through the add-on, each from its first time, where none is in force.

    Parameters
    ----------
    times:
        N account-times of K accounts.
    book:
        Which book each account-time holds, shape (N,): where an account's book changes, the level
        in force scales with the initial margin, as `decisions.book_scoring.PreviousAddOn` does.
    closes:
        Close of each market row in nanoseconds.
    bounds, rules:
        Floor, cap and stress at each account-time, and ``[add_on]`` of the rule set.
    """

    def __init__(
        self,
        times: AccountPanel,
        book: Ints,
        closes: Ints,
        bounds: RuleBounds,
        rules: AddOnRules,
    ) -> None:
        self._times, self._book, self._closes = times, book, closes
        self._bounds, self._rules = bounds, rules
        self._owner = times.owner()
        self._by_row = _by_row(times.rows.row)

    def levels(self, model_level: Floats) -> Floats:
        """The level in force at every account-time, shape (N,).

        Where the model gives no level (NaN) the floor is asked for, and the level before stays the
        one that the next is paced against.
        """
        level = np.empty(len(self._times))
        accounts = len(self._times.start) - 1
        previous, margin = np.full(accounts, np.nan), np.ones(accounts)
        book = np.full(accounts, -1, dtype=np.int64)
        set_at = np.zeros(accounts, dtype=np.int64)
        carried = np.zeros(accounts, dtype=np.bool_)
        initial_margin, bounds = self._times.initial_margin, self._bounds
        for row, index in self._by_row:
            account, now = self._owner[index], int(self._closes[row])
            before = previous[account]
            changed = self._book[index] != book[account]
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = before * (initial_margin[index] / margin[account])
            before = np.where(changed, np.where(margin[account] > 0.0, scaled, np.nan), before)
            hours = (now - set_at[account]) / HOUR
            hours = np.where(carried[account], np.minimum(hours, CARRIED_HOURS), hours)
            bounded = bound_add_on(
                model_level[index],
                bounds.floor[index],
                bounds.cap[index],
                before,
                hours,
                initial_margin[index],
                bool(bounds.stress[index[0]]),
                self._rules,
            ).level
            level[index] = bounded
            answered = ~np.isnan(model_level[index])
            theirs, here = account[answered], index[answered]
            previous[theirs], margin[theirs] = bounded[answered], initial_margin[here]
            book[theirs], set_at[theirs] = self._book[here], now
            carried[account] = ~answered
        return level


def _by_row(row: Ints) -> list[tuple[int, Ints]]:
    """Every market row, rising, with the account-times at it."""
    order = np.argsort(row, kind="stable")
    rows, first = np.unique(row[order], return_index=True)
    return list(zip(rows.tolist(), np.split(order, first[1:]), strict=True))
