"""The largest size of a position that still fits."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from margin.portfolio import Holding, Portfolio
from margin.ruleset import RuleSet
from margin.what_if.outcome import Outcome, outcomes
from margin.what_if.trades import Change, coin_settled
from market.errors import CaseError

Floats = npt.NDArray[np.float64]

Level = Literal["initial", "maintenance"]

_RUNGS = 64
_WIDTH = 32
"""Sizes that are margined at once while the bracket is narrowed."""
_PRECISION = 1e-9


def largest_size(
    portfolio: Portfolio,
    trade: Holding,
    ruleset: RuleSet,
    level: Level = "initial",
    target: float = 0.0,
) -> float:
    r"""The largest size of a trade after which the net margin is at least `target`.

    Sizes of 0 and of a ladder from a millionth of the portfolio's scale to a million times it,
    each rung 2^(2/3) of the last, are margined; from the first rung that fits, up to the last
    before one that does not, the end is narrowed to nine digits. So a trade that hedges counts
    although nothing fits without it, and a size beyond one that does not fit is not offered.

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
    Signed like the trade, and seen to fit; 0 where no size does, infinite where every rung does.

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

    def fits(sizes: Floats) -> npt.NDArray[np.bool_]:
        trades = [msgspec.structs.replace(trade, quantity=side * size) for size in sizes.tolist()]
        changed = outcomes(portfolio, [Change(trades=(one,)) for one in trades], ruleset)
        return np.array([_net(one, level) >= target for one in changed])

    sizes = np.concatenate([[0.0], _scale(portfolio, trade, ruleset) * np.logspace(-6, 6, _RUNGS)])
    good = fits(sizes)
    if not good.any():
        return 0.0
    first = int(np.argmax(good))
    bad = np.flatnonzero(~good[first:])
    if not len(bad):
        return side * math.inf
    low, high = sizes[first + bad[0] - 1], sizes[first + bad[0]]
    # Not of the end alone: a first step that costs at any size would narrow down to 0 for ever.
    while high - low > _PRECISION * max(high, sizes[1]):
        inner = np.linspace(low, high, _WIDTH + 2)[1:-1]
        fit = fits(inner)
        cut = len(inner) if fit.all() else int(np.argmin(fit))
        low, high = (low if cut == 0 else inner[cut - 1]), (high if fit.all() else inner[cut])
    return float(side * low)


def _net(outcome: Outcome, level: Level) -> float:
    if level == "initial":
        return outcome.initial_net_margin
    return outcome.maintenance_net_margin


def _scale(portfolio: Portfolio, trade: Holding, ruleset: RuleSet) -> float:
    """A size to measure others by: all that the portfolio holds, in units of the trade."""
    spot = portfolio.underlyings[trade.underlying].spot
    cash = abs(portfolio.cash) * (spot if coin_settled(ruleset) else 1.0)
    money = cash + sum(abs(one.amount * one.price) for one in portfolio.collateral)
    money += sum(
        abs(held.quantity) * portfolio.underlyings[held.underlying].spot
        for held in portfolio.positions
    )
    return money / spot if money > 0.0 else 1.0
