"""Liquidation and bankruptcy price of an account under any engine, by search over one price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Portfolio
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins
from margin.liquidation.crossing import first_true
from margin.liquidation.shocked_portfolio import shock_portfolio
from margin.rules.ruleset import RuleSet
from market.core.errors import CaseError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_Figure = Callable[[Margins], Floats]

LOWEST, HIGHEST = 1e-3, 1e2
"""Multiples of today's price that bound the search."""

_STEP = 0.01
"""Largest relative step of the first pass."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Nearest multiples of today's prices at which a figure of the account falls below zero.

    Attributes
    ----------
    down, up:
        Below and above 1; None where no price between `LOWEST` and `HIGHEST` does it.
    passed:
        The figure is below zero today; `down` and `up` are None then.
    """

    down: float | None
    up: float | None
    passed: bool


def liquidation_crossing(portfolio: Portfolio, underlying: str, ruleset: RuleSet) -> Crossing:
    """Find where the net maintenance margin falls below zero as one underlying moves.

    Spot, perpetual and forwards move together, see
    `margin.liquidation.shocked_portfolio.shock_portfolio`; everything else stays. Search in both
    directions over relative steps of 1%, then to the last bits: a dip below zero between two such
    steps is missed.
    """
    return _crossing(portfolio, underlying, ruleset, lambda margins: margins.maintenance_net)


def bankruptcy_crossing(portfolio: Portfolio, underlying: str, ruleset: RuleSet) -> Crossing:
    """Find where mark-to-market, cash and collateral before haircuts included, falls below zero.

    Like `liquidation_crossing`. Haircuts and margins only take away, so the account is liquidated
    on the way.
    """
    return _crossing(portfolio, underlying, ruleset, lambda margins: margins.mark_to_market)


def margins_of(portfolios: list[Portfolio], ruleset: RuleSet) -> Margins:
    """Margins of portfolios; raises `CaseError` where float64 cannot hold them."""
    with np.errstate(over="ignore", invalid="ignore"):
        margins = compute_margins(flatten(portfolios, ruleset.collateral), ruleset)
    if not np.isfinite(margins.maintenance_net).all():
        raise CaseError("the figures exceed what float64 can hold; check the sizes given")
    return margins


def _crossing(portfolio: Portfolio, underlying: str, ruleset: RuleSet, figure: _Figure) -> Crossing:
    if underlying not in portfolio.underlyings:
        raise CaseError(
            f"underlying {underlying!r} is not in the portfolio; it has "
            f"{', '.join(portfolio.underlyings) or 'none'}"
        )

    def below(multiples: Floats) -> Bools:
        shocked = [
            shock_portfolio(portfolio, underlying, float(multiple), ruleset.collateral)
            for multiple in multiples
        ]
        negative: Bools = figure(margins_of(shocked, ruleset)) < 0.0
        return negative

    if below(np.ones(1))[0]:
        return Crossing(None, None, True)
    down, up = (first_true(below, _path(end)) for end in (LOWEST, HIGHEST))
    return Crossing(None if down is None else down[1], None if up is None else up[1], False)


def _path(end: float) -> Floats:
    steps = int(np.ceil(abs(np.log(end)) / np.log1p(_STEP)))
    path: Floats = np.geomspace(1.0, end, steps + 1)
    return path
