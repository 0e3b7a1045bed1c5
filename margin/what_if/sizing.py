"""The largest size of a position that still fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np

from margin.book.case_portfolio import Holding, Portfolio
from margin.rules.ruleset import RuleSet
from margin.what_if.outcome import Outcome, outcomes
from margin.what_if.trades import Change, coin_settled
from market.core.arrays import Bools, Floats
from market.core.errors import CaseError

Level = Literal["initial", "maintenance"]

_RUNGS = 64
_WIDTH = 32
"""Sizes that are tried at once while the bracket is narrowed."""
_PRECISION = 1e-9
_ROUNDS = 16
"""Rounds of narrowing at most; nine digits take six or seven."""
_SMALLEST_UNIT, _LARGEST_UNIT = 1e-290, 1e290
"""Sizes stay normal numbers: beside denormals a bracket cannot be narrowed."""


def search_largest(fits: Callable[[Floats], Bools], unit: float) -> float:
    r"""The largest size that fits.

    Sizes of 0 and of a ladder from a millionth of `unit` to a million times it, each rung
    10^(12/63) of the last, are tried; from the first rung that fits, up to the last before one
    that does not, the end is narrowed to nine digits. So a trade that hedges counts although
    nothing fits without it, and a size beyond one that does not fit is not offered.

    Parameters
    ----------
    fits:
        Whether each of some sizes, shape (K,), fits.
    unit:
        A size to measure others by, above 0.

    Returns
    -------
    A size that fits; 0 where none does, infinite where every rung does.
    """
    unit = min(max(unit, _SMALLEST_UNIT), _LARGEST_UNIT)
    sizes = np.concatenate([[0.0], unit * np.logspace(-6, 6, _RUNGS)])
    good = fits(sizes)
    if not good.any():
        return 0.0
    first = int(np.argmax(good))
    bad = np.flatnonzero(~good[first:])
    if not len(bad):
        return math.inf
    low, high = float(sizes[first + bad[0] - 1]), float(sizes[first + bad[0]])
    # Not relative to the end alone: a first step that costs at any size would narrow to 0.
    for _ in range(_ROUNDS):
        if high - low <= _PRECISION * max(high, float(sizes[1])):
            break
        inner = np.linspace(low, high, _WIDTH + 2)[1:-1]
        fit = fits(inner)
        cut = len(inner) if fit.all() else int(np.argmin(fit))
        low, high = (
            low if cut == 0 else float(inner[cut - 1]),
            high if cut == len(inner) else float(inner[cut]),
        )
    return low


def largest_size(
    portfolio: Portfolio,
    trade: Holding,
    ruleset: RuleSet,
    level: Level = "initial",
    target: float = 0.0,
) -> float:
    """The largest size of a trade after which the net margin is at least `target`.

    See `search_largest`. By the rules alone: no add-on.

    Parameters
    ----------
    trade:
        Its `quantity` gives the direction only: above 0 buys, below sells; done at the mark.
    level:
        Which net margin has to stay.
    target:
        Settlement currency.

    Returns
    -------
    Signed like the trade, and fits; 0 where no size does, infinite where every rung does.

    Raises
    ------
    CaseError, InstrumentError
        The direction is 0, or the changed portfolio cannot be valued.
    """
    if trade.quantity == 0.0 or not math.isfinite(trade.quantity):
        raise CaseError(
            f"{trade.name!r} has quantity {trade.quantity}; give one above 0 to buy or below 0 to "
            "sell: only its sign counts"
        )
    side = math.copysign(1.0, trade.quantity)

    def fits(sizes: Floats) -> Bools:
        trades = [msgspec.structs.replace(trade, quantity=side * size) for size in sizes.tolist()]
        changed = outcomes(portfolio, [Change(trades=(one,)) for one in trades], ruleset)
        return np.array([_net(one, level) >= target for one in changed])

    return side * search_largest(fits, size_unit(portfolio, trade, ruleset))


def _net(outcome: Outcome, level: Level) -> float:
    if level == "initial":
        return outcome.initial_net_margin
    return outcome.maintenance_net_margin


def size_unit(portfolio: Portfolio, trade: Holding, ruleset: RuleSet) -> float:
    """A size to measure others by: all that the portfolio holds, in units of the trade; 1 for a
    portfolio of nothing."""
    spot = portfolio.underlyings[trade.underlying].spot
    cash = abs(portfolio.cash) * (spot if coin_settled(ruleset) else 1.0)
    money = cash + sum(abs(one.amount * one.price) for one in portfolio.collateral)
    money += sum(
        abs(position.quantity) * portfolio.underlyings[position.underlying].spot
        for position in portfolio.positions
    )
    return money / spot if money > 0.0 else 1.0
