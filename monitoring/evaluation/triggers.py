"""When the live book is evaluated again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from margin.life_cycle.states import NEVER, States
from margin.valuation.marks import perpetual_marks, spot_marks
from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """Thresholds of the triggers.

    Attributes
    ----------
    mark_threshold:
        Relative move of any spot or perpetual mark since the last rule pass; 0: every change of
        the market counts.
    distance_threshold:
        Change of an account's headroom over gross notional since its level was set.
    timer_seconds:
        Longest time between two rule passes.
    """

    mark_threshold: float = 0.0
    distance_threshold: float = 0.01
    timer_seconds: float = 60.0


def mark_prices(view: MarketView) -> Floats:
    """Marks that value spot and perpetual positions, one array."""
    return np.concatenate([spot_marks(view).price, perpetual_marks(view).price])


def has_moved(before: Floats, now: Floats, threshold: float) -> bool:
    """Whether a mark moved by more than `threshold`, relative, or one came or went."""
    if before.shape != now.shape:
        return True
    known = np.isfinite(before)
    if not np.array_equal(known, np.isfinite(now)):
        return True
    return bool((np.abs(now[known] - before[known]) > threshold * np.abs(before[known])).any())


def moved_accounts(at_level: Floats, now: Floats, threshold: float) -> Bools:
    """Accounts whose distance changed by more than `threshold` since their level was set, (N,).

    Infinite distances of accounts without positions are equal; an unknown one is no change.
    """
    with np.errstate(invalid="ignore"):
        change = np.abs(now - at_level)
    appeared = np.isinf(now) != np.isinf(at_level)
    known = ~np.isnan(now) & ~np.isnan(at_level)
    moved: Bools = known & (appeared | (change > threshold))
    return moved


def deadline_due(states: States, now: int) -> bool:
    """Whether a deadline of a call, or the end of a grace, has passed."""
    deadline = states.deadline
    return bool(((deadline != NEVER) & (deadline <= now)).any())
