"""The whole add-on over history: model level, rule floor, cap, and pacing from hour to hour.

The same compiled function as in decisions bounds each level against the one before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from decisions.book_scoring import CARRIED_HOURS
from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import Pace, add_on_cap, bound_level, in_stress
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
        Floor, cap and stress at each account-time, and ``[add_on]`` of the rule set. A phase-in
        is left out: backtests, gates and the choice of p* judge the model in full.
    """

    def __init__(
        self,
        times: AccountPanel,
        book: Ints,
        closes: Ints,
        bounds: RuleBounds,
        rules: AddOnRules,
    ) -> None:
        self._start, self._book = times.start, book
        self._closes = closes[times.rows.row]
        self._margin, self._bounds = times.initial_margin, bounds
        self._paces = Pace.of(rules, stress=False), Pace.of(rules, stress=True)

    def levels(self, model_level: Floats) -> Floats:
        """The level in force at every account-time, shape (N,).

        Where the model gives no level (NaN) the floor is asked for, and the level before stays the
        one that the next is paced against.
        """
        level = np.empty(len(model_level))
        _walk(
            self._start,
            self._book,
            self._closes,
            model_level,
            self._margin,
            (self._bounds.floor, self._bounds.cap, self._bounds.stress),
            self._paces,
            level,
        )
        return level


@njit(cache=True, error_model="numpy")
def _walk(start, book, closes, model_level, margin, bounds, paces, out):  # type: ignore[no-untyped-def]
    """Account by account; its times stand one after the other, rising."""
    floor, cap, stress = bounds
    calm, stressed = paces
    for account in range(len(start) - 1):
        before, carried = -1, False  # the account-time whose level the next is paced against
        for n in range(start[account], start[account + 1]):
            previous, hours = np.nan, np.nan
            if before >= 0:
                previous = out[before]
                if book[n] != book[before]:
                    scale = margin[n] / margin[before]
                    previous = previous * scale if margin[before] > 0.0 else np.nan
                hours = (closes[n] - closes[before]) / HOUR
                if carried:
                    hours = min(hours, CARRIED_HOURS)
            pace = stressed if stress[n] else calm
            out[n], _, _ = bound_level(
                model_level[n], floor[n], cap[n], previous, hours, margin[n], pace
            )
            carried = math.isnan(model_level[n])
            if not carried:
                before = n


def _by_row(row: Ints) -> list[tuple[int, Ints]]:
    """Every market row, rising, with the account-times at it."""
    order = np.argsort(row, kind="stable")
    rows, first = np.unique(row[order], return_index=True)
    return list(zip(rows.tolist(), np.split(order, first[1:]), strict=True))
